package main

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "ottla/compat/checks"
)

func values(records []*kgo.Record) (found []string) {
	for _, record := range records {
		found = append(found, string(record.Value))
	}
	return found
}

func transactionsAreSeenWholeOrNotAtAll() {
	topic, id := create(Name("tx"), 1), Name("tx")
	c := client(kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	defer c.Close()
	for _, round := range []struct {
		value string
		end   kgo.TransactionEndTry
	}{{"a", kgo.TryCommit}, {"lost", kgo.TryAbort}, {"b", kgo.TryCommit}} {
		Check(c.BeginTransaction())
		Check(c.ProduceSync(within(30), kgo.StringRecord(round.value)).FirstErr())
		Check(c.EndTransaction(within(30), round.end))
	}
	got := read(topic, 0, 2, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	Equal(values(got), []string{"a", "b"}, "committed")
	Equal(values(read(topic, 0, 3)), []string{"a", "lost", "b"}, "everything")

	young := client(kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	defer young.Close()
	Check(young.BeginTransaction())
	Check(young.ProduceSync(within(30), kgo.StringRecord("c")).FirstErr())
	Check(c.BeginTransaction())
	late := c.ProduceSync(within(30), kgo.StringRecord("late")).FirstErr()
	fenced := errors.Is(late, kerr.InvalidProducerEpoch) || errors.Is(late, kerr.ProducerFenced)
	Equal(fenced, true, fmt.Sprintf("the old one hears %v", late))
	Check(young.EndTransaction(within(30), kgo.TryCommit))
	got = read(topic, 0, 3, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	Equal(values(got), []string{"a", "b", "c"}, "committed")
}

func groupsConsumeTransformProduceExactlyOnce() {
	from, to := create(Name("tx-from"), 2), create(Name("tx-to"), 1)
	produce(append(simple(from, 0, 0, 50), simple(from, 1, 0, 50)...))
	for round, done := 0, 0; done < 100; round++ {
		// A new member each round, of which every third aborts.
		session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(Bootstrap), kgo.TransactionalID(Name("tx-copy")),
			kgo.ConsumerGroup(Name("tx-copy")), kgo.ConsumeTopics(from), kgo.DefaultProduceTopic(to),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets())
		Check(err)
		fetches := session.PollRecords(within(30), 30)
		Check(fetches.Err())
		Check(session.Begin())
		for _, record := range fetches.Records() {
			session.Produce(within(30), &kgo.Record{Value: fmt.Appendf(nil, "%d %s", record.Partition, record.Value)}, nil)
		}
		ended, err := session.End(within(30), kgo.TransactionEndTry(round%3 != 1))
		Check(err)
		if ended {
			done += fetches.NumRecords()
		}
		session.Close()
	}
	seen := map[string]int{}
	for _, value := range values(read(to, 0, 100, kgo.FetchIsolationLevel(kgo.ReadCommitted()))) {
		seen[value]++
	}
	Equal(len(seen), 100, "different values")
}
