package main

import (
	"time"

	"github.com/IBM/sarama"

	. "ottla/compat/checks"
)

func transactionsAreSeenWholeOrNotAtAll() {
	topic := create(Name("tx"), 1)
	c := config("")
	c.Producer.Idempotent = true
	c.Producer.Transaction.ID = Name("tx")
	c.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(bootstrap, c)
	Check(err)
	defer producer.Close()
	for _, round := range []struct {
		value   string
		offset  int64
		commits bool
	}{{"a", 1, true}, {"lost", 7, false}, {"b", 2, true}} {
		Check(producer.BeginTxn())
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(round.value)})
		Check(err)
		offsets := map[string][]*sarama.PartitionOffsetMetadata{topic: {{Partition: 0, Offset: round.offset}}}
		Check(producer.AddOffsetsToTxn(offsets, Name("tx")))
		if round.commits {
			Check(producer.CommitTxn())
		} else {
			Check(producer.AbortTxn())
		}
	}
	reads := config("")
	reads.Consumer.IsolationLevel = sarama.ReadCommitted
	consumer, err := sarama.NewConsumer(bootstrap, reads)
	Check(err)
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	Check(err)
	defer partition.Close()
	for _, wanted := range []string{"a", "b"} {
		select {
		case message := <-partition.Messages():
			Equal(string(message.Value), wanted, "committed value")
		case <-time.After(30 * time.Second):
			panic("no message within 30 s")
		}
	}
	a := admin()
	defer a.Close()
	Eventually("the committed offset", func() bool {
		found, err := a.ListConsumerGroupOffsets(Name("tx"), map[string][]int32{topic: {0}})
		Check(err)
		return found.GetBlock(topic, 0).Offset == 2
	})
}
