// sarama against BOOTSTRAP.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"github.com/IBM/sarama"

	. "ottla/compat/checks"
)

var (
	bootstrap = []string{Bootstrap}
	codecs    = map[string]sarama.CompressionCodec{"uncompressed": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
)

// config is that of a client of the given broker version (the newest when empty).
func config(version string) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_9_0_0
	if version != "" {
		parsed, err := sarama.ParseKafkaVersion(version)
		Check(err)
		c.Version = parsed
	}
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 6 * time.Second
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	c.Consumer.Group.Rebalance.Retry.Backoff = 200 * time.Millisecond
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	return c
}

func admin() sarama.ClusterAdmin {
	a, err := sarama.NewClusterAdmin(bootstrap, config(""))
	Check(err)
	return a
}

func create(topic string, partitions int32, configs ...string) string {
	a := admin()
	defer a.Close()
	values := map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		values[configs[i]] = &configs[i+1]
	}
	Check(a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: values}, false))
	return topic
}

func simple(topic string, partition int32, start, count int) (messages []*sarama.ProducerMessage) {
	for i := start; i < start+count; i++ {
		messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: partition,
			Key: sarama.StringEncoder(fmt.Sprintf("k%d", i)), Value: sarama.StringEncoder(fmt.Sprintf("value %d", i))})
	}
	return messages
}

func produce(c *sarama.Config, messages []*sarama.ProducerMessage) error {
	producer, err := sarama.NewSyncProducer(bootstrap, c)
	Check(err)
	defer producer.Close()
	return producer.SendMessages(messages)
}

func read(c *sarama.Config, topic string, partition int32, offset int64, count int) (messages []*sarama.ConsumerMessage) {
	consumer, err := sarama.NewConsumer(bootstrap, c)
	Check(err)
	defer consumer.Close()
	stream, err := consumer.ConsumePartition(topic, partition, offset)
	Check(err)
	defer stream.Close()
	deadline := time.After(30 * time.Second)
	for len(messages) < count {
		select {
		case message := <-stream.Messages():
			messages = append(messages, message)
		case <-deadline:
			panic(fmt.Sprintf("only %d of %d messages", len(messages), count))
		}
	}
	return messages
}

func same(got []*sarama.ConsumerMessage, wanted []*sarama.ProducerMessage, what string) {
	for i := range wanted {
		value, _ := wanted[i].Value.Encode()
		Equal(string(got[i].Value), string(value), fmt.Sprint(what, " message ", i))
		Equal(got[i].Offset, int64(i), what+" offset")
	}
}

func topicsAreDescribedGrownAndDeleted() {
	a := admin()
	defer a.Close()
	topic := create(Name("topic"), 2, "retention.ms", "86400000")
	err := a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	Equal(errors.Is(err, sarama.ErrTopicAlreadyExists), true, fmt.Sprint("created twice: ", err))
	Check(a.CreateTopic(Name("only-checked"), &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, true))
	described, err := a.DescribeTopics([]string{topic})
	Check(err)
	Equal(len(described[0].Partitions), 2, "partitions")
	brokers, controller, err := a.DescribeCluster()
	Check(err)
	Equal(len(brokers), 1, "brokers")
	Equal(brokers[0].ID(), controller, "controller")
	entries, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	Check(err)
	for _, entry := range entries {
		switch entry.Name {
		case "retention.ms":
			Equal(entry.Value+fmt.Sprint(entry.Default), "86400000false", entry.Name)
		case "segment.bytes":
			Equal(entry.Value+fmt.Sprint(entry.Default), "1073741824true", entry.Name)
		}
	}
	Equal(len(entries) > 20, true, "more than 20 settings")
	dirs, err := a.DescribeLogDirs([]int32{controller})
	Check(err)
	Equal(len(dirs[controller]), 1, "log directories")
	Check(a.CreatePartitions(topic, 4, nil, false))
	Eventually("four partitions", func() bool {
		described, err := a.DescribeTopics([]string{topic})
		return err == nil && len(described[0].Partitions) == 4
	})
	Check(a.DeleteTopic(topic))
	Eventually("the topic is gone", func() bool {
		topics, err := a.ListTopics()
		_, there := topics[topic]
		return err == nil && !there
	})
	topics, err := a.ListTopics()
	Check(err)
	_, there := topics[Name("only-checked")]
	Equal(there, false, "a validated topic was created")
}

func contentsSurviveByteForByte() {
	topic := create(Name("contents"), 1)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	at := time.UnixMilli(1_700_000_000_000)
	sent := []*sarama.ProducerMessage{
		{Key: sarama.StringEncoder("key"), Value: sarama.StringEncoder("value"), Timestamp: at,
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("1")}, {Key: []byte("h"), Value: []byte("2")}}},
		{Value: sarama.StringEncoder("no key"), Timestamp: at.Add(time.Millisecond)},
		{Key: sarama.StringEncoder("no value"), Timestamp: at.Add(2 * time.Millisecond)},
		{Key: sarama.ByteEncoder(every), Value: sarama.ByteEncoder(bytes.Repeat(every, 100)), Timestamp: at.Add(3 * time.Millisecond)},
	}
	for _, message := range sent {
		message.Topic = topic
	}
	Check(produce(config(""), sent))
	for i, got := range read(config(""), topic, 0, 0, 4) {
		encoded := func(e sarama.Encoder) []byte {
			if e == nil {
				return nil
			}
			b, _ := e.Encode()
			return b
		}
		Equal(string(got.Key), string(encoded(sent[i].Key)), "key")
		Equal(string(got.Value), string(encoded(sent[i].Value)), "value")
		Equal(got.Value == nil, sent[i].Value == nil, "null value")
		Equal(got.Timestamp.UnixMilli(), sent[i].Timestamp.UnixMilli(), "timestamp")
		Equal(len(got.Headers), len(sent[i].Headers), "headers")
		for j, header := range sent[i].Headers {
			Equal(string(got.Headers[j].Key)+string(got.Headers[j].Value), string(header.Key)+string(header.Value), "header")
		}
	}
}

func everyCodecRoundTripsAndTopicCompressionWins() {
	for label, codec := range codecs {
		c := config("")
		c.Producer.Compression = codec
		topic := create(Name("codec-"+label), 1)
		messages := simple(topic, 0, 0, 300)
		Check(produce(c, messages))
		same(read(c, topic, 0, 0, 300), messages, label)
		recoded := create(Name("recoded-"+label), 1, "compression.type", label)
		var all []*sarama.ProducerMessage
		for _, sender := range codecs {
			c := config("")
			c.Producer.Compression = sender
			messages := simple(recoded, 0, len(all), 60)
			Check(produce(c, messages))
			all = append(all, messages...)
		}
		same(read(c, recoded, 0, 0, 300), all, "recoded to "+label)
	}
}

func oldProtocolVersionsWork() {
	for _, version := range []string{"0.8.2.2", "0.9.0.1", "0.10.0.1", "0.10.2.2", "0.11.0.2", "1.1.1", "2.4.1", "3.3.2"} {
		for _, label := range []string{"uncompressed", "gzip", "snappy"} {
			old := config(version)
			old.Producer.Compression = codecs[label]
			topic := create(Name("old-"+version+"-"+label), 1)
			messages := simple(topic, 0, 0, 50)
			Check(produce(old, messages))
			same(read(old, topic, 0, 0, 50), messages, version)
			same(read(config(""), topic, 0, 0, 50), messages, version+" read as new")
			newer := simple(topic, 0, 50, 50)
			Check(produce(config(""), newer))
			same(read(old, topic, 0, 0, 100), append(messages, newer...), "new read as "+version)
		}
	}
}

func idempotentProducerKeepsOrder() {
	topic := create(Name("idempotent"), 1)
	c := config("")
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Flush.MaxMessages = 100
	Check(produce(c, simple(topic, 0, 0, 10_000)))
	same(read(c, topic, 0, 0, 10_000), simple(topic, 0, 0, 10_000), "idempotent")
}

func acksZeroAndOneArrive() {
	topic := create(Name("acks"), 1)
	c := config("")
	c.Producer.RequiredAcks = sarama.NoResponse
	Check(produce(c, simple(topic, 0, 0, 50)))
	read(c, topic, 0, 0, 50)
	c.Producer.RequiredAcks = sarama.WaitForLocal
	more := simple(topic, 0, 50, 1)
	Check(produce(c, more))
	Equal(more[0].Offset, int64(50), "offset")
}

func offsetsAreFoundByTime() {
	topic := create(Name("times"), 1)
	messages := simple(topic, 0, 0, 100)
	for i, message := range messages {
		message.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(i)*1000)
	}
	Check(produce(config(""), messages))
	for _, version := range []string{"0.8.2.2", "0.10.2.2", ""} {
		client, err := sarama.NewClient(bootstrap, config(version))
		Check(err)
		for _, c := range []struct{ at, wanted int64 }{{sarama.OffsetOldest, 0}, {sarama.OffsetNewest, 100}, {1_700_000_050_001, 51}} {
			if c.at > 0 && version == "0.8.2.2" {
				continue
			}
			found, err := client.GetOffset(topic, 0, c.at)
			Check(err)
			Equal(found, c.wanted, fmt.Sprint(version, " offset at ", c.at))
		}
		client.Close()
	}
	_, err := func() (any, error) {
		consumer, err := sarama.NewConsumer(bootstrap, config(""))
		Check(err)
		defer consumer.Close()
		return consumer.ConsumePartition(topic, 0, 5000)
	}()
	Equal(errors.Is(err, sarama.ErrOffsetOutOfRange), true, fmt.Sprint("beyond the end: ", err))
}

// member is one consumer of a group; what it owns and has read can be asked at any time.
type member struct {
	group  sarama.ConsumerGroup
	cancel context.CancelFunc
	lock   sync.Mutex
	owned  []int32
	seen   map[string]bool
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.owned = nil
	for _, partitions := range session.Claims() {
		m.owned = append(m.owned, partitions...)
	}
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		session.MarkMessage(message, "")
		session.Commit()
		m.lock.Lock()
		m.seen[fmt.Sprint(message.Partition, "/", message.Offset)] = true
		m.lock.Unlock()
	}
	return nil
}

func (m *member) owns() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.owned) }
func (m *member) read() int { m.lock.Lock(); defer m.lock.Unlock(); return len(m.seen) }
func (m *member) close()    { m.cancel(); m.group.Close() }

func join(group, topic, version string, strategy sarama.BalanceStrategy, instance string) *member {
	c := config(version)
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	c.Consumer.Group.InstanceId = instance
	g, err := sarama.NewConsumerGroup(bootstrap, group, c)
	Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{group: g, cancel: cancel, seen: map[string]bool{}}
	go func() {
		for ctx.Err() == nil {
			if g.Consume(ctx, []string{topic}, m) != nil {
				return
			}
		}
	}()
	return m
}

func groupSplitsAndResumes(strategy sarama.BalanceStrategy, version string) {
	label := strategy.Name() + version
	topic, group := create(Name("group-"+label), 4), Name("group-"+label)
	first := join(group, topic, version, strategy, "")
	Eventually("the first member has everything", func() bool { return first.owns() == 4 })
	second := join(group, topic, version, strategy, "")
	Eventually("two partitions each", func() bool { return first.owns() == 2 && second.owns() == 2 })
	for p := range int32(4) {
		Check(produce(config(""), simple(topic, p, 0, 20)))
	}
	Eventually("80 messages between two members", func() bool { return first.read()+second.read() == 80 })
	second.close()
	Eventually("the first member has everything again", func() bool { return first.owns() == 4 })
	first.close()
	for p := range int32(4) {
		Check(produce(config(""), simple(topic, p, 20, 1)))
	}
	third := join(group, topic, version, strategy, "")
	Eventually("resumed at the commits", func() bool { return third.read() == 4 })
	for p := range 4 {
		Equal(third.seen[fmt.Sprint(p, "/20")], true, "the message after the commit")
	}
	third.close()
}

func aRangeGroupRebalances()      { groupSplitsAndResumes(sarama.NewBalanceStrategyRange(), "") }
func aRoundRobinGroupRebalances() { groupSplitsAndResumes(sarama.NewBalanceStrategyRoundRobin(), "") }
func aStickyGroupRebalances()     { groupSplitsAndResumes(sarama.NewBalanceStrategySticky(), "") }
func aGroupOfOldClientsRebalances() {
	groupSplitsAndResumes(sarama.NewBalanceStrategyRange(), "0.10.2.2")
}

func groupsAreListedDescribedAndDeleted() {
	topic, group := create(Name("offsets"), 2), Name("offsets")
	Check(produce(config(""), simple(topic, 0, 0, 10)))
	a := admin()
	defer a.Close()
	m := join(group, topic, "", sarama.NewBalanceStrategyRange(), "one")
	Eventually("ten messages", func() bool { return m.read() == 10 })
	groups, err := a.ListConsumerGroups()
	Check(err)
	Equal(groups[group], "consumer", "the type of the listed group")
	described, err := a.DescribeConsumerGroups([]string{group})
	Check(err)
	Equal(described[0].State, "Stable", "state")
	for _, one := range described[0].Members {
		Equal(*one.GroupInstanceId, "one", "instance")
	}
	offsets, err := a.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1}})
	Check(err)
	Equal(offsets.GetBlock(topic, 0).Offset, int64(10), "committed")
	Equal(offsets.GetBlock(topic, 1).Offset, int64(-1), "not committed")
	err = a.DeleteConsumerGroup(group)
	Equal(errors.Is(err, sarama.ErrNonEmptyGroup), true, fmt.Sprint("deleted while in use: ", err))
	m.close()
	left, err := a.RemoveMemberFromConsumerGroup(group, []string{"one"})
	Check(err)
	Equal(left.Err, sarama.ErrNoError, "removing the static member")
	Check(a.DeleteConsumerGroup(group))
	groups, err = a.ListConsumerGroups()
	Check(err)
	_, there := groups[group]
	Equal(there, false, "the group is gone")
}

func recordsAreDeletedFromTheFront() {
	topic := create(Name("delete-records"), 1)
	Check(produce(config(""), simple(topic, 0, 0, 100)))
	a := admin()
	defer a.Close()
	Check(a.DeleteRecords(topic, map[int32]int64{0: 60}))
	Equal(read(config(""), topic, 0, sarama.OffsetOldest, 1)[0].Offset, int64(60), "first offset")
}

func aLargeMessagePassesAndTooLargeAOneIsRefused() {
	topic := create(Name("large"), 1, "max.message.bytes", "4000000")
	c := config("")
	c.Producer.MaxMessageBytes = 5_000_000
	c.Consumer.Fetch.Default = 1000
	big := make([]byte, 3_000_000)
	rand.Read(big)
	Check(produce(c, []*sarama.ProducerMessage{{Topic: topic, Value: sarama.ByteEncoder(big)}}))
	Equal(bytes.Equal(read(c, topic, 0, 0, 1)[0].Value, big), true, "contents")
	small := create(Name("small"), 1, "max.message.bytes", "1000")
	err := produce(c, []*sarama.ProducerMessage{{Topic: small, Value: sarama.ByteEncoder(big[:5000])}})
	var failures sarama.ProducerErrors
	Equal(errors.As(err, &failures) && errors.Is(failures[0].Err, sarama.ErrMessageSizeTooLarge), true, fmt.Sprint("too large: ", err))
}

func aTopicIsCreatedByProducingToIt() {
	topic := Name("auto-created")
	Check(produce(config(""), simple(topic, 0, 0, 1)))
	read(config(""), topic, 0, 0, 1)
}

func main() {
	sarama.Logger = log.New(io.Discard, "", 0)
	Run([]Named{
		{"topicsAreDescribedGrownAndDeleted", topicsAreDescribedGrownAndDeleted},
		{"contentsSurviveByteForByte", contentsSurviveByteForByte},
		{"everyCodecRoundTripsAndTopicCompressionWins", everyCodecRoundTripsAndTopicCompressionWins},
		{"oldProtocolVersionsWork", oldProtocolVersionsWork},
		{"idempotentProducerKeepsOrder", idempotentProducerKeepsOrder},
		{"acksZeroAndOneArrive", acksZeroAndOneArrive},
		{"offsetsAreFoundByTime", offsetsAreFoundByTime},
		{"aRangeGroupRebalances", aRangeGroupRebalances},
		{"aRoundRobinGroupRebalances", aRoundRobinGroupRebalances},
		{"aStickyGroupRebalances", aStickyGroupRebalances},
		{"aGroupOfOldClientsRebalances", aGroupOfOldClientsRebalances},
		{"groupsAreListedDescribedAndDeleted", groupsAreListedDescribedAndDeleted},
		{"recordsAreDeletedFromTheFront", recordsAreDeletedFromTheFront},
		{"aLargeMessagePassesAndTooLargeAOneIsRefused", aLargeMessagePassesAndTooLargeAOneIsRefused},
		{"aTopicIsCreatedByProducingToIt", aTopicIsCreatedByProducingToIt},
		{"transactionsAreSeenWholeOrNotAtAll", transactionsAreSeenWholeOrNotAtAll},
	})
}
