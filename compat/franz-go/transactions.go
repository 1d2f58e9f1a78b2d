package main

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func values(records []*kgo.Record) (found []string) {
	for _, record := range records {
		found = append(found, string(record.Value))
	}
	return found
}

func transactionsAreSeenWholeOrNotAtAll() {
	topic, id := create(name("tx"), 1), name("tx")
	c := client(kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	defer c.Close()
	for _, round := range []struct {
		value string
		end   kgo.TransactionEndTry
	}{{"a", kgo.TryCommit}, {"lost", kgo.TryAbort}, {"b", kgo.TryCommit}} {
		check(c.BeginTransaction())
		check(c.ProduceSync(within(30), kgo.StringRecord(round.value)).FirstErr())
		check(c.EndTransaction(within(30), round.end))
	}
	got := read(topic, 0, 2, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	equal(values(got), []string{"a", "b"}, "committed")
	equal(values(read(topic, 0, 3)), []string{"a", "lost", "b"}, "everything")

	young := client(kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	defer young.Close()
	check(young.BeginTransaction())
	check(young.ProduceSync(within(30), kgo.StringRecord("c")).FirstErr())
	check(c.BeginTransaction())
	late := c.ProduceSync(within(30), kgo.StringRecord("late")).FirstErr()
	fenced := errors.Is(late, kerr.InvalidProducerEpoch) || errors.Is(late, kerr.ProducerFenced)
	equal(fenced, true, fmt.Sprintf("the old one hears %v", late))
	check(young.EndTransaction(within(30), kgo.TryCommit))
	got = read(topic, 0, 3, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	equal(values(got), []string{"a", "b", "c"}, "committed")
}

func groupsConsumeTransformProduceExactlyOnce() {
	from, to := create(name("tx-from"), 2), create(name("tx-to"), 1)
	produce(append(simple(from, 0, 0, 50), simple(from, 1, 0, 50)...))
	for round, done := 0, 0; done < 100; round++ {
		// A new member each round, of which every third aborts.
		session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(name("tx-copy")),
			kgo.ConsumerGroup(name("tx-copy")), kgo.ConsumeTopics(from), kgo.DefaultProduceTopic(to),
			kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets())
		check(err)
		fetches := session.PollRecords(within(30), 30)
		check(fetches.Err())
		check(session.Begin())
		for _, record := range fetches.Records() {
			session.Produce(within(30), &kgo.Record{Value: fmt.Appendf(nil, "%d %s", record.Partition, record.Value)}, nil)
		}
		ended, err := session.End(within(30), kgo.TransactionEndTry(round%3 != 1))
		check(err)
		if ended {
			done += fetches.NumRecords()
		}
		session.Close()
	}
	seen := map[string]int{}
	for _, value := range values(read(to, 0, 100, kgo.FetchIsolationLevel(kgo.ReadCommitted()))) {
		seen[value]++
	}
	equal(len(seen), 100, "different values")
}
