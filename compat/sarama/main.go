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
	"os"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var (
	bootstrap = []string{os.Getenv("BOOTSTRAP")}
	run       = func() string { b := make([]byte, 4); rand.Read(b); return fmt.Sprintf("%x", b) }()
	codecs    = map[string]sarama.CompressionCodec{"uncompressed": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
)

func name(what string) string { return what + "-" + run }

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal[T any](got, wanted T, what string) {
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", wanted); g != w {
		panic(fmt.Sprintf("%s: got %.600s, wanted %.600s", what, g, w))
	}
}

func eventually(what string, condition func() bool) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if condition() {
			return
		}
	}
	panic("not within 30 s: " + what)
}

// config is that of a client of the given broker version (the newest when empty).
func config(version string) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_9_0_0
	if version != "" {
		parsed, err := sarama.ParseKafkaVersion(version)
		check(err)
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
	check(err)
	return a
}

func create(topic string, partitions int32, configs ...string) string {
	a := admin()
	defer a.Close()
	values := map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		values[configs[i]] = &configs[i+1]
	}
	check(a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: values}, false))
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
	check(err)
	defer producer.Close()
	return producer.SendMessages(messages)
}

func read(c *sarama.Config, topic string, partition int32, offset int64, count int) (messages []*sarama.ConsumerMessage) {
	consumer, err := sarama.NewConsumer(bootstrap, c)
	check(err)
	defer consumer.Close()
	stream, err := consumer.ConsumePartition(topic, partition, offset)
	check(err)
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
		equal(string(got[i].Value), string(value), fmt.Sprint(what, " message ", i))
		equal(got[i].Offset, int64(i), what+" offset")
	}
}

func topicsAreDescribedGrownAndDeleted() {
	a := admin()
	defer a.Close()
	topic := create(name("topic"), 2, "retention.ms", "86400000")
	err := a.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	equal(errors.Is(err, sarama.ErrTopicAlreadyExists), true, fmt.Sprint("created twice: ", err))
	check(a.CreateTopic(name("only-checked"), &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, true))
	described, err := a.DescribeTopics([]string{topic})
	check(err)
	equal(len(described[0].Partitions), 2, "partitions")
	brokers, controller, err := a.DescribeCluster()
	check(err)
	equal(len(brokers), 1, "brokers")
	equal(brokers[0].ID(), controller, "controller")
	entries, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	check(err)
	for _, entry := range entries {
		switch entry.Name {
		case "retention.ms":
			equal(entry.Value+fmt.Sprint(entry.Default), "86400000false", entry.Name)
		case "segment.bytes":
			equal(entry.Value+fmt.Sprint(entry.Default), "1073741824true", entry.Name)
		}
	}
	equal(len(entries) > 20, true, "more than 20 settings")
	dirs, err := a.DescribeLogDirs([]int32{controller})
	check(err)
	equal(len(dirs[controller]), 1, "log directories")
	check(a.CreatePartitions(topic, 4, nil, false))
	eventually("four partitions", func() bool {
		described, err := a.DescribeTopics([]string{topic})
		return err == nil && len(described[0].Partitions) == 4
	})
	check(a.DeleteTopic(topic))
	eventually("the topic is gone", func() bool {
		topics, err := a.ListTopics()
		_, there := topics[topic]
		return err == nil && !there
	})
	topics, err := a.ListTopics()
	check(err)
	_, there := topics[name("only-checked")]
	equal(there, false, "a validated topic was created")
}

func contentsSurviveByteForByte() {
	topic := create(name("contents"), 1)
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
	check(produce(config(""), sent))
	for i, got := range read(config(""), topic, 0, 0, 4) {
		encoded := func(e sarama.Encoder) []byte {
			if e == nil {
				return nil
			}
			b, _ := e.Encode()
			return b
		}
		equal(string(got.Key), string(encoded(sent[i].Key)), "key")
		equal(string(got.Value), string(encoded(sent[i].Value)), "value")
		equal(got.Value == nil, sent[i].Value == nil, "null value")
		equal(got.Timestamp.UnixMilli(), sent[i].Timestamp.UnixMilli(), "timestamp")
		equal(len(got.Headers), len(sent[i].Headers), "headers")
		for j, header := range sent[i].Headers {
			equal(string(got.Headers[j].Key)+string(got.Headers[j].Value), string(header.Key)+string(header.Value), "header")
		}
	}
}

func everyCodecRoundTripsAndTopicCompressionWins() {
	for label, codec := range codecs {
		c := config("")
		c.Producer.Compression = codec
		topic := create(name("codec-"+label), 1)
		messages := simple(topic, 0, 0, 300)
		check(produce(c, messages))
		same(read(c, topic, 0, 0, 300), messages, label)
		recoded := create(name("recoded-"+label), 1, "compression.type", label)
		var all []*sarama.ProducerMessage
		for _, sender := range codecs {
			c := config("")
			c.Producer.Compression = sender
			messages := simple(recoded, 0, len(all), 60)
			check(produce(c, messages))
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
			topic := create(name("old-"+version+"-"+label), 1)
			messages := simple(topic, 0, 0, 50)
			check(produce(old, messages))
			same(read(old, topic, 0, 0, 50), messages, version)
			same(read(config(""), topic, 0, 0, 50), messages, version+" read as new")
			newer := simple(topic, 0, 50, 50)
			check(produce(config(""), newer))
			same(read(old, topic, 0, 0, 100), append(messages, newer...), "new read as "+version)
		}
	}
}

func idempotentProducerKeepsOrder() {
	topic := create(name("idempotent"), 1)
	c := config("")
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Flush.MaxMessages = 100
	check(produce(c, simple(topic, 0, 0, 10_000)))
	same(read(c, topic, 0, 0, 10_000), simple(topic, 0, 0, 10_000), "idempotent")
}

func acksZeroAndOneArrive() {
	topic := create(name("acks"), 1)
	c := config("")
	c.Producer.RequiredAcks = sarama.NoResponse
	check(produce(c, simple(topic, 0, 0, 50)))
	read(c, topic, 0, 0, 50)
	c.Producer.RequiredAcks = sarama.WaitForLocal
	more := simple(topic, 0, 50, 1)
	check(produce(c, more))
	equal(more[0].Offset, int64(50), "offset")
}

func offsetsAreFoundByTime() {
	topic := create(name("times"), 1)
	messages := simple(topic, 0, 0, 100)
	for i, message := range messages {
		message.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(i)*1000)
	}
	check(produce(config(""), messages))
	for _, version := range []string{"0.8.2.2", "0.10.2.2", ""} {
		client, err := sarama.NewClient(bootstrap, config(version))
		check(err)
		for _, c := range []struct{ at, wanted int64 }{{sarama.OffsetOldest, 0}, {sarama.OffsetNewest, 100}, {1_700_000_050_001, 51}} {
			if c.at > 0 && version == "0.8.2.2" {
				continue
			}
			found, err := client.GetOffset(topic, 0, c.at)
			check(err)
			equal(found, c.wanted, fmt.Sprint(version, " offset at ", c.at))
		}
		client.Close()
	}
	_, err := func() (any, error) {
		consumer, err := sarama.NewConsumer(bootstrap, config(""))
		check(err)
		defer consumer.Close()
		return consumer.ConsumePartition(topic, 0, 5000)
	}()
	equal(errors.Is(err, sarama.ErrOffsetOutOfRange), true, fmt.Sprint("beyond the end: ", err))
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
	check(err)
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
	topic, group := create(name("group-"+label), 4), name("group-"+label)
	first := join(group, topic, version, strategy, "")
	eventually("the first member has everything", func() bool { return first.owns() == 4 })
	second := join(group, topic, version, strategy, "")
	eventually("two partitions each", func() bool { return first.owns() == 2 && second.owns() == 2 })
	for p := range int32(4) {
		check(produce(config(""), simple(topic, p, 0, 20)))
	}
	eventually("80 messages between two members", func() bool { return first.read()+second.read() == 80 })
	second.close()
	eventually("the first member has everything again", func() bool { return first.owns() == 4 })
	first.close()
	for p := range int32(4) {
		check(produce(config(""), simple(topic, p, 20, 1)))
	}
	third := join(group, topic, version, strategy, "")
	eventually("resumed at the commits", func() bool { return third.read() == 4 })
	for p := range 4 {
		equal(third.seen[fmt.Sprint(p, "/20")], true, "the message after the commit")
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
	topic, group := create(name("offsets"), 2), name("offsets")
	check(produce(config(""), simple(topic, 0, 0, 10)))
	a := admin()
	defer a.Close()
	m := join(group, topic, "", sarama.NewBalanceStrategyRange(), "one")
	eventually("ten messages", func() bool { return m.read() == 10 })
	groups, err := a.ListConsumerGroups()
	check(err)
	equal(groups[group], "consumer", "the type of the listed group")
	described, err := a.DescribeConsumerGroups([]string{group})
	check(err)
	equal(described[0].State, "Stable", "state")
	for _, one := range described[0].Members {
		equal(*one.GroupInstanceId, "one", "instance")
	}
	offsets, err := a.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1}})
	check(err)
	equal(offsets.GetBlock(topic, 0).Offset, int64(10), "committed")
	equal(offsets.GetBlock(topic, 1).Offset, int64(-1), "not committed")
	err = a.DeleteConsumerGroup(group)
	equal(errors.Is(err, sarama.ErrNonEmptyGroup), true, fmt.Sprint("deleted while in use: ", err))
	m.close()
	left, err := a.RemoveMemberFromConsumerGroup(group, []string{"one"})
	check(err)
	equal(left.Err, sarama.ErrNoError, "removing the static member")
	check(a.DeleteConsumerGroup(group))
	groups, err = a.ListConsumerGroups()
	check(err)
	_, there := groups[group]
	equal(there, false, "the group is gone")
}

func recordsAreDeletedFromTheFront() {
	topic := create(name("delete-records"), 1)
	check(produce(config(""), simple(topic, 0, 0, 100)))
	a := admin()
	defer a.Close()
	check(a.DeleteRecords(topic, map[int32]int64{0: 60}))
	equal(read(config(""), topic, 0, sarama.OffsetOldest, 1)[0].Offset, int64(60), "first offset")
}

func aLargeMessagePassesAndTooLargeAOneIsRefused() {
	topic := create(name("large"), 1, "max.message.bytes", "4000000")
	c := config("")
	c.Producer.MaxMessageBytes = 5_000_000
	c.Consumer.Fetch.Default = 1000
	big := make([]byte, 3_000_000)
	rand.Read(big)
	check(produce(c, []*sarama.ProducerMessage{{Topic: topic, Value: sarama.ByteEncoder(big)}}))
	equal(bytes.Equal(read(c, topic, 0, 0, 1)[0].Value, big), true, "contents")
	small := create(name("small"), 1, "max.message.bytes", "1000")
	err := produce(c, []*sarama.ProducerMessage{{Topic: small, Value: sarama.ByteEncoder(big[:5000])}})
	var failures sarama.ProducerErrors
	equal(errors.As(err, &failures) && errors.Is(failures[0].Err, sarama.ErrMessageSizeTooLarge), true, fmt.Sprint("too large: ", err))
}

func aTopicIsCreatedByProducingToIt() {
	topic := name("auto-created")
	check(produce(config(""), simple(topic, 0, 0, 1)))
	read(config(""), topic, 0, 0, 1)
}

func main() {
	sarama.Logger = log.New(io.Discard, "", 0)
	checks := []struct {
		name string
		body func()
	}{
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
	}
	passed, failed := 0, 0
	for _, c := range checks {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], c.name) {
			continue
		}
		began := time.Now()
		func() {
			defer func() {
				if problem := recover(); problem != nil {
					failed++
					fmt.Printf("FAIL %s: %v\n", c.name, problem)
				} else {
					passed++
					fmt.Printf("ok %s (%.1f s)\n", c.name, time.Since(began).Seconds())
				}
			}()
			c.body()
		}()
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
