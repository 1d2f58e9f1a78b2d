package main

import (
	"time"

	"github.com/IBM/sarama"
)

func transactionsAreSeenWholeOrNotAtAll() {
	topic := create(name("tx"), 1)
	c := config("")
	c.Producer.Idempotent = true
	c.Producer.Transaction.ID = name("tx")
	c.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(bootstrap, c)
	check(err)
	defer producer.Close()
	for _, round := range []struct {
		value   string
		offset  int64
		commits bool
	}{{"a", 1, true}, {"lost", 7, false}, {"b", 2, true}} {
		check(producer.BeginTxn())
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(round.value)})
		check(err)
		offsets := map[string][]*sarama.PartitionOffsetMetadata{topic: {{Partition: 0, Offset: round.offset}}}
		check(producer.AddOffsetsToTxn(offsets, name("tx")))
		if round.commits {
			check(producer.CommitTxn())
		} else {
			check(producer.AbortTxn())
		}
	}
	reads := config("")
	reads.Consumer.IsolationLevel = sarama.ReadCommitted
	consumer, err := sarama.NewConsumer(bootstrap, reads)
	check(err)
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	check(err)
	defer partition.Close()
	for _, wanted := range []string{"a", "b"} {
		select {
		case message := <-partition.Messages():
			equal(string(message.Value), wanted, "committed value")
		case <-time.After(30 * time.Second):
			panic("no message within 30 s")
		}
	}
	a := admin()
	defer a.Close()
	eventually("the committed offset", func() bool {
		found, err := a.ListConsumerGroupOffsets(name("tx"), map[string][]int32{topic: {0}})
		check(err)
		return found.GetBlock(topic, 0).Offset == 2
	})
}
