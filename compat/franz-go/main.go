// franz-go (with its admin package) against BOOTSTRAP.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	. "ottla/compat/checks"
)

func client(options ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(Bootstrap)}, options...)...)
	Check(err)
	return c
}

func admin() *kadm.Client { return kadm.NewClient(client()) }

func within(seconds int) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
	_ = cancel // ends with the deadline
	return ctx
}

func create(topic string, partitions int32, configs ...string) string {
	a := admin()
	defer a.Close()
	values := map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		values[configs[i]] = &configs[i+1]
	}
	reply, err := a.CreateTopic(within(30), partitions, 1, values, topic)
	Check(err)
	Check(reply.Err)
	return topic
}

func simple(topic string, partition int32, start, count int) (records []*kgo.Record) {
	for i := start; i < start+count; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition,
			Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "value %d", i)})
	}
	return records
}

func produce(records []*kgo.Record, options ...kgo.Opt) {
	c := client(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	defer c.Close()
	Check(c.ProduceSync(within(60), records...).FirstErr())
}

// take polls until count records came.
func take(c *kgo.Client, count int) (records []*kgo.Record) {
	ctx := within(30)
	for len(records) < count {
		fetches := c.PollRecords(ctx, count-len(records))
		if ctx.Err() != nil {
			panic(fmt.Sprintf("only %d of %d records", len(records), count))
		}
		Check(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func from(topic string, partition int32, offset int64) kgo.Opt {
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}})
}

func read(topic string, partition int32, count int, options ...kgo.Opt) []*kgo.Record {
	c := client(append(options, from(topic, partition, 0))...)
	defer c.Close()
	return take(c, count)
}

func same(got, wanted []*kgo.Record, what string) {
	for i := range wanted {
		if !bytes.Equal(got[i].Value, wanted[i].Value) || !bytes.Equal(got[i].Key, wanted[i].Key) {
			panic(fmt.Sprintf("%s: record %d is %.200q, wanted %.200q", what, i, got[i].Value, wanted[i].Value))
		}
	}
}

func topicsAreDescribedGrownAndDeleted() {
	a := admin()
	defer a.Close()
	topic := create(Name("topic"), 2, "cleanup.policy", "compact", "min.insync.replicas", "1")
	_, err := a.CreateTopic(within(30), 1, 1, nil, topic)
	Equal(errors.Is(err, kerr.TopicAlreadyExists), true, fmt.Sprint("created twice: ", err))
	_, err = a.CreateTopic(within(30), 1, 1, nil, "bad/name")
	Equal(errors.Is(err, kerr.InvalidTopicException), true, fmt.Sprint("a bad name: ", err))
	_, err = a.CreateTopic(within(30), 1, 4, nil, Name("four-replicas"))
	Equal(errors.Is(err, kerr.InvalidReplicationFactor), true, fmt.Sprint("four replicas: ", err))
	details, err := a.ListTopics(within(30), topic)
	Check(err)
	Equal(len(details[topic].Partitions), 2, "partitions")
	Equal(details[topic].ID == kadm.TopicID{}, false, "an empty topic id")
	configs, err := a.DescribeTopicConfigs(within(30), topic)
	Check(err)
	found := map[string]string{}
	for _, config := range configs[0].Configs {
		found[config.Key] = config.MaybeValue()
	}
	Equal(found["cleanup.policy"], "compact", "cleanup.policy")
	Equal(found["max.message.bytes"], "1048588", "max.message.bytes")
	brokers, err := a.ListBrokers(within(30))
	Check(err)
	settings, err := a.DescribeBrokerConfigs(within(30), brokers.NodeIDs()...)
	Check(err)
	Equal(len(settings[0].Configs) > 100, true, "more than 100 broker settings")
	dirs, err := a.DescribeAllLogDirs(within(30), nil)
	Check(err)
	sized := 0
	dirs.Each(func(dir kadm.DescribedLogDir) {
		dir.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == topic {
				sized++
			}
		})
	})
	Equal(sized, 2, "partitions in the log directories")
	_, err = a.CreatePartitions(within(30), 3, topic)
	Check(err)
	Eventually("five partitions", func() bool {
		details, err := a.ListTopics(within(30), topic)
		return err == nil && len(details[topic].Partitions) == 5
	})
	_, err = a.DeleteTopic(within(30), topic)
	Check(err)
	Eventually("the topic is gone", func() bool {
		details, err := a.ListTopics(within(30))
		return err == nil && !details.Has(topic)
	})
}

func contentsSurviveByteForByte() {
	topic := create(Name("contents"), 1)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	at := time.UnixMilli(1_700_000_000_000)
	sent := []*kgo.Record{
		{Topic: topic, Key: []byte("key"), Value: []byte("value"), Timestamp: at,
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}, {Key: "null"}}},
		{Topic: topic, Value: []byte("no key"), Timestamp: at.Add(1 * time.Millisecond)},
		{Topic: topic, Key: []byte("no value"), Timestamp: at.Add(2 * time.Millisecond)},
		{Topic: topic, Key: []byte{}, Value: []byte{}, Timestamp: at.Add(3 * time.Millisecond)},
		{Topic: topic, Key: every, Value: bytes.Repeat(every, 100), Timestamp: at.Add(4 * time.Millisecond)},
	}
	produce(sent)
	for i, got := range read(topic, 0, 5) {
		wanted := sent[i]
		Equal(got.Offset, int64(i), "offset")
		Equal(got.Key == nil, wanted.Key == nil, fmt.Sprint("null key of ", i))
		Equal(got.Value == nil, wanted.Value == nil, fmt.Sprint("null value of ", i))
		Equal(string(got.Key), string(wanted.Key), "key")
		Equal(string(got.Value), string(wanted.Value), "value")
		Equal(len(got.Headers), len(wanted.Headers), "headers")
		for j, header := range wanted.Headers {
			Equal(got.Headers[j].Key+"="+string(got.Headers[j].Value), header.Key+"="+string(header.Value), "header")
			Equal(got.Headers[j].Value == nil, header.Value == nil, "null header")
		}
		Equal(got.Timestamp.UnixMilli(), wanted.Timestamp.UnixMilli(), "timestamp")
	}
}

func codecs() map[string]kgo.CompressionCodec {
	return map[string]kgo.CompressionCodec{"uncompressed": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
}

func everyCodecRoundTripsAndTopicCompressionWins() {
	for codec, compression := range codecs() {
		topic := create(Name("codec-"+codec), 1)
		records := simple(topic, 0, 0, 500)
		produce(records, kgo.ProducerBatchCompression(compression))
		same(read(topic, 0, 500), records, codec)
		recoded := create(Name("recoded-"+codec), 1, "compression.type", codec)
		var all []*kgo.Record
		for _, sender := range codecs() {
			records := simple(recoded, 0, len(all), 100)
			produce(records, kgo.ProducerBatchCompression(sender))
			all = append(all, records...)
		}
		same(read(recoded, 0, 500), all, "recoded to "+codec)
	}
}

func oldProtocolVersionsWork() {
	for _, version := range []string{"v0.8.2", "v0.9.0", "v0.10.0", "v0.10.2", "v0.11.0", "v1.1.0", "v2.3.0", "v2.8.0", "v3.3.0"} {
		limit := kgo.MaxVersions(kversion.FromString(version))
		topic := create(Name("old-"+version), 1)
		records := simple(topic, 0, 0, 50)
		options := []kgo.Opt{limit, kgo.ProducerBatchCompression(kgo.GzipCompression())}
		if version < "v0.11" && version[3] != '1' || strings.HasPrefix(version, "v0.10") {
			options = append(options, kgo.DisableIdempotentWrite())
		}
		produce(records, options...)
		same(read(topic, 0, 50, limit), records, version)
		same(read(topic, 0, 50), records, version+" read as new")
		newer := simple(topic, 0, 50, 50)
		produce(newer, kgo.ProducerBatchCompression(kgo.SnappyCompression()))
		same(read(topic, 0, 100, limit), append(records, newer...), "new read as "+version)
		if version == "v0.8.2" {
			continue
		}
		group := Name("group-" + version)
		c := client(limit, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.Balancers(kgo.RangeBalancer()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		take(c, 100)
		Check(c.CommitUncommittedOffsets(within(30)))
		c.Close()
		a := admin()
		offsets, err := a.FetchOffsets(within(30), group)
		Check(err)
		committed, _ := offsets.Lookup(topic, 0)
		Equal(committed.At, int64(100), "committed by "+version)
		a.Close()
	}
}

func idempotentProducerKeepsOrder() {
	topic := create(Name("idempotent"), 1)
	c := client(kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(5000), kgo.ProducerBatchMaxBytes(2000))
	defer c.Close()
	var failure error
	for i := range 20_000 {
		c.Produce(context.Background(), kgo.StringRecord(fmt.Sprintf("%06d", i)), func(_ *kgo.Record, err error) {
			if err != nil {
				failure = err
			}
		})
	}
	Check(c.Flush(within(60)))
	Check(failure)
	for i, record := range read(topic, 0, 20_000) {
		Equal(string(record.Value), fmt.Sprintf("%06d", i), "value")
	}
}

func acksZeroAndOneArrive() {
	topic := create(Name("acks"), 1)
	produce(simple(topic, 0, 0, 50), kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	read(topic, 0, 50)
	records := simple(topic, 0, 50, 5)
	produce(records, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	Equal(records[0].Offset, int64(50), "offset")
}

func offsetsAreFoundByTimeAndKind() {
	topic := create(Name("times"), 1)
	records := simple(topic, 0, 0, 100)
	for i, record := range records {
		record.Timestamp = time.UnixMilli(1_700_000_000_000 + int64(i)*1000)
	}
	produce(records, kgo.ProducerBatchMaxBytes(512))
	a := admin()
	defer a.Close()
	lookup := func(listed kadm.ListedOffsets, err error) int64 {
		Check(err)
		found, _ := listed.Lookup(topic, 0)
		Check(found.Err)
		return found.Offset
	}
	Equal(lookup(a.ListStartOffsets(within(30), topic)), int64(0), "start")
	Equal(lookup(a.ListEndOffsets(within(30), topic)), int64(100), "end")
	Equal(lookup(a.ListCommittedOffsets(within(30), topic)), int64(100), "last stable")
	Equal(lookup(a.ListMaxTimestampOffsets(within(30), topic)), int64(99), "largest timestamp")
	Equal(lookup(a.ListOffsetsAfterMilli(within(30), 1_700_000_050_001, topic)), int64(51), "after a time")
}

func seekPauseAndReset() {
	topic := create(Name("seek"), 2)
	produce(append(simple(topic, 0, 0, 100), simple(topic, 1, 0, 100)...))
	c := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().At(95), 1: kgo.NewOffset().At(97)}}))
	defer c.Close()
	Equal(len(take(c, 8)), 8, "the ends of both")
	c.PauseFetchPartitions(map[string][]int32{topic: {0}})
	produce(append(simple(topic, 0, 100, 3), simple(topic, 1, 100, 3)...))
	for _, record := range take(c, 3) {
		Equal(record.Partition, int32(1), "only the partition that is not paused")
	}
	c.ResumeFetchPartitions(map[string][]int32{topic: {0}})
	Equal(take(c, 3)[0].Offset, int64(100), "resumed")
	beyond := client(from(topic, 0, 5000), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer beyond.Close()
	Equal(take(beyond, 1)[0].Offset, int64(0), "reset to the start")
}

func groupSplitsAndResumes(balancer kgo.GroupBalancer) {
	label := balancer.ProtocolName()
	topic, group := create(Name("group-"+label), 4), Name("group-"+label)
	member := func() *kgo.Client {
		return client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.Balancers(balancer), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second),
			kgo.HeartbeatInterval(300*time.Millisecond))
	}
	a := admin()
	defer a.Close()
	assigned := func() (counts []int) {
		described, err := a.DescribeGroups(within(30), group)
		if err != nil || described[group].State != "Stable" {
			return nil
		}
		for _, m := range described[group].Members {
			count := 0
			if assignment, ok := m.Assigned.AsConsumer(); ok {
				for _, t := range assignment.Topics {
					count += len(t.Partitions)
				}
			}
			counts = append(counts, count)
		}
		return counts
	}
	first := member()
	Eventually("the first member has everything", func() bool { return slices.Equal(assigned(), []int{4}) })
	second := member()
	Eventually("two partitions each", func() bool { return slices.Equal(assigned(), []int{2, 2}) })
	for p := range int32(4) {
		produce(simple(topic, p, 0, 50))
	}
	seen := map[string]bool{}
	for _, record := range append(take(first, 100), take(second, 100)...) {
		seen[fmt.Sprint(record.Partition, "/", record.Offset)] = true
	}
	Equal(len(seen), 200, "records between two members")
	Check(first.CommitUncommittedOffsets(within(30)))
	Check(second.CommitUncommittedOffsets(within(30)))
	second.Close()
	Eventually("the first member has everything again", func() bool { return slices.Equal(assigned(), []int{4}) })
	first.Close()
	for p := range int32(4) {
		produce(simple(topic, p, 50, 1))
	}
	third := member()
	for _, record := range take(third, 4) {
		Equal(record.Offset, int64(50), "resumed at the commits")
	}
	third.Close()
}

func aRangeGroupRebalances()       { groupSplitsAndResumes(kgo.RangeBalancer()) }
func aRoundRobinGroupRebalances()  { groupSplitsAndResumes(kgo.RoundRobinBalancer()) }
func aStickyGroupRebalances()      { groupSplitsAndResumes(kgo.StickyBalancer()) }
func aCooperativeGroupRebalances() { groupSplitsAndResumes(kgo.CooperativeStickyBalancer()) }

func aStaticMemberKeepsItsIdentity() {
	topic, group := create(Name("static"), 1), Name("static")
	produce(simple(topic, 0, 0, 2))
	a := admin()
	defer a.Close()
	generation := func() string {
		described, err := a.DescribeGroups(within(30), group)
		Check(err)
		Equal(len(described[group].Members), 1, "members")
		Equal(*described[group].Members[0].InstanceID, "one", "instance")
		return described[group].State
	}
	for range 2 {
		c := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.InstanceID("one"), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second))
		take(c, 2)
		Equal(generation(), "Stable", "state")
		c.Close()
		Equal(generation(), "Stable", "state after closing")
	}
	left, err := a.LeaveGroup(within(30), kadm.LeaveGroup(group).InstanceIDs("one").Reason("over"))
	Check(err)
	Check(left.Error())
	Eventually("the group is empty", func() bool {
		described, err := a.DescribeGroups(within(30), group)
		return err == nil && described[group].State == "Empty"
	})
}

func groupsAreListedAlteredAndDeleted() {
	topic, group := create(Name("offsets"), 2), Name("offsets")
	a := admin()
	defer a.Close()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 7, LeaderEpoch: -1, Metadata: "seven"})
	offsets.AddOffset(topic, 1, 8, -1)
	Check(a.CommitAllOffsets(within(30), group, offsets))
	fetched, err := a.FetchOffsets(within(30), group)
	Check(err)
	zero, _ := fetched.Lookup(topic, 0)
	Equal(fmt.Sprint(zero.At, zero.Metadata), "7seven", "commit")
	listed, err := a.ListGroups(within(30), "Empty")
	Check(err)
	Equal(slices.Contains(listed.Groups(), group), true, "listed as empty")
	lag, err := a.Lag(within(30), group)
	Check(err)
	Check(lag.Error())
	deleted, err := a.DeleteOffsets(within(30), group, kadm.TopicsSet{topic: {1: struct{}{}}})
	Check(err)
	Check(deleted.Error())
	fetched, err = a.FetchOffsets(within(30), group)
	Check(err)
	_, still := fetched.Lookup(topic, 1)
	Equal(still, false, "the deleted offset")
	_, err = a.DeleteGroup(within(30), group)
	Check(err)
	_, err = a.DeleteGroup(within(30), group)
	Equal(errors.Is(err, kerr.GroupIDNotFound), true, fmt.Sprint("deleted twice: ", err))
}

func recordsAreDeletedFromTheFront() {
	topic := create(Name("delete-records"), 1)
	produce(simple(topic, 0, 0, 100))
	a := admin()
	defer a.Close()
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 60, -1)
	deleted, err := a.DeleteRecords(within(30), offsets)
	Check(err)
	Check(deleted.Error())
	c := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	Equal(take(c, 1)[0].Offset, int64(60), "first offset")
	offsets.AddOffset(topic, 0, 600, -1)
	deleted, err = a.DeleteRecords(within(30), offsets)
	Check(err)
	Equal(errors.Is(deleted.Error(), kerr.OffsetOutOfRange), true, fmt.Sprint("beyond the end: ", deleted.Error()))
}

func aLargeMessagePassesAndTooLargeAOneIsRefused() {
	topic := create(Name("large"), 1, "max.message.bytes", "4000000")
	big := make([]byte, 3_000_000)
	rand.Read(big)
	produce([]*kgo.Record{{Topic: topic, Value: big}}, kgo.ProducerBatchMaxBytes(5_000_000))
	Equal(bytes.Equal(read(topic, 0, 1, kgo.FetchMaxPartitionBytes(1000))[0].Value, big), true, "contents")
	small := create(Name("small"), 1, "max.message.bytes", "1000")
	c := client()
	defer c.Close()
	err := c.ProduceSync(within(30), &kgo.Record{Topic: small, Value: big[:5000]}).FirstErr()
	Equal(errors.Is(err, kerr.MessageTooLarge), true, fmt.Sprint("too large: ", err))
}

func aLongPollWakesUpAndAutoCreationWorks() {
	topic := Name("auto-created")
	c := client(kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(20))
	defer c.Close()
	Check(c.ProduceSync(within(30), &kgo.Record{Topic: topic, Value: []byte("first")}).FirstErr())
	reader := client(from(topic, 0, 1), kgo.FetchMaxWait(10*time.Second))
	defer reader.Close()
	go func() {
		time.Sleep(500 * time.Millisecond)
		c.ProduceSync(within(30), &kgo.Record{Topic: topic, Value: []byte("second")})
	}()
	ctx := within(8)
	fetches := reader.PollRecords(ctx, 1)
	Check(fetches.Err())
	Equal(string(fetches.Records()[0].Value), "second", "value")
}

func main() {
	Run([]Named{
		{"topicsAreDescribedGrownAndDeleted", topicsAreDescribedGrownAndDeleted},
		{"contentsSurviveByteForByte", contentsSurviveByteForByte},
		{"everyCodecRoundTripsAndTopicCompressionWins", everyCodecRoundTripsAndTopicCompressionWins},
		{"oldProtocolVersionsWork", oldProtocolVersionsWork},
		{"idempotentProducerKeepsOrder", idempotentProducerKeepsOrder},
		{"acksZeroAndOneArrive", acksZeroAndOneArrive},
		{"offsetsAreFoundByTimeAndKind", offsetsAreFoundByTimeAndKind},
		{"seekPauseAndReset", seekPauseAndReset},
		{"aRangeGroupRebalances", aRangeGroupRebalances},
		{"aRoundRobinGroupRebalances", aRoundRobinGroupRebalances},
		{"aStickyGroupRebalances", aStickyGroupRebalances},
		{"aCooperativeGroupRebalances", aCooperativeGroupRebalances},
		{"aStaticMemberKeepsItsIdentity", aStaticMemberKeepsItsIdentity},
		{"groupsAreListedAlteredAndDeleted", groupsAreListedAlteredAndDeleted},
		{"recordsAreDeletedFromTheFront", recordsAreDeletedFromTheFront},
		{"aLargeMessagePassesAndTooLargeAOneIsRefused", aLargeMessagePassesAndTooLargeAOneIsRefused},
		{"aLongPollWakesUpAndAutoCreationWorks", aLongPollWakesUpAndAutoCreationWorks},
		{"transactionsAreSeenWholeOrNotAtAll", transactionsAreSeenWholeOrNotAtAll},
		{"groupsConsumeTransformProduceExactlyOnce", groupsConsumeTransformProduceExactlyOnce},
	})
}
