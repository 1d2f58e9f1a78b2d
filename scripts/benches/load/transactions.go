package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const partitionsOfTransaction = 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch of one record of 100 bytes, inside a transaction.
func batch(id int64, epoch int16, sequence int32) []byte {
	value := make([]byte, 100)
	record := []byte{0, 0, 0, 1} // attributes, time delta, offset delta, null key
	record = binary.AppendVarint(record, int64(len(value)))
	record = append(record, value...)
	record = append(record, 0) // no headers
	now := uint64(time.Now().UnixMilli())
	b := binary.BigEndian.AppendUint16(nil, 0x10) // transactional
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, now)
	b = binary.BigEndian.AppendUint64(b, now)
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	b = binary.BigEndian.AppendUint16(b, uint16(epoch))
	b = binary.BigEndian.AppendUint32(b, uint32(sequence))
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.AppendVarint(b, int64(len(record)))
	b = append(b, record...)
	out := binary.BigEndian.AppendUint64(nil, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(len(b)+9))
	out = binary.BigEndian.AppendUint32(out, ^uint32(0))
	out = append(out, 2)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(b, castagnoli))
	return append(out, b...)
}

type producer struct {
	c        *conn
	name     string
	id       int64
	epoch    int16
	sequence int32
	repeated int
}

func (p *producer) begin() {
	coordinator(p.c, p.name, 1)
	for {
		request := kmsg.NewInitProducerIDRequest()
		request.TransactionalID, request.TransactionTimeoutMillis = &p.name, 60000
		response := p.c.call(&request, 1).(*kmsg.InitProducerIDResponse)
		switch response.ErrorCode {
		case 14, 15, 16, 51:
			time.Sleep(10 * time.Millisecond)
			continue
		}
		must(response.ErrorCode, "InitProducerId")
		p.id, p.epoch = response.ProducerID, response.ProducerEpoch
		return
	}
}

func (p *producer) add() {
	request, in := kmsg.NewAddPartitionsToTxnRequest(), kmsg.NewAddPartitionsToTxnRequestTopic()
	in.Topic = topic
	for n := range partitionsOfTransaction {
		in.Partitions = append(in.Partitions, int32(n))
	}
	request.TransactionalID, request.ProducerID, request.ProducerEpoch = p.name, p.id, p.epoch
	request.Topics = []kmsg.AddPartitionsToTxnRequestTopic{in}
	for {
		code := p.c.call(&request, 2).(*kmsg.AddPartitionsToTxnResponse).Topics[0].Partitions[0].ErrorCode
		if code != 51 {
			must(code, "AddPartitionsToTxn")
			return
		}
		// The markers of the transaction before are still on their way.
		p.repeated++
		time.Sleep(2 * time.Millisecond)
	}
}

func (p *producer) produce() {
	request, to := kmsg.NewProduceRequest(), kmsg.NewProduceRequestTopic()
	request.TransactionID, request.Acks, request.TimeoutMillis = &p.name, -1, 30000
	to.Topic = topic
	for n := range partitionsOfTransaction {
		partition := kmsg.NewProduceRequestTopicPartition()
		partition.Partition, partition.Records = int32(n), batch(p.id, p.epoch, p.sequence)
		to.Partitions = append(to.Partitions, partition)
	}
	p.sequence++
	request.Topics = []kmsg.ProduceRequestTopic{to}
	for _, partition := range p.c.call(&request, 8).(*kmsg.ProduceResponse).Topics[0].Partitions {
		must(partition.ErrorCode, "Produce")
	}
}

func (p *producer) end() time.Duration {
	request := kmsg.NewEndTxnRequest()
	request.TransactionalID, request.ProducerID, request.ProducerEpoch, request.Commit = p.name, p.id, p.epoch, true
	began := time.Now()
	must(p.c.call(&request, 2).(*kmsg.EndTxnResponse).ErrorCode, "EndTxn")
	return time.Since(began)
}

// transactions: a record to each of ten partitions, at a rate; how long EndTxn takes.
func transactions() any {
	c := dial(*bootstrap)
	create(c, partitionsOfTransaction)
	all := make([]*producer, *producers)
	var starting sync.WaitGroup
	for n := range all {
		all[n] = &producer{c: dial(*bootstrap), name: fmt.Sprintf("producer-%d", n)}
		starting.Go(all[n].begin)
	}
	starting.Wait()
	interval := time.Second * time.Duration(*producers) / time.Duration(*rate)
	turns := func(count int) (latency []time.Duration) {
		var lock sync.Mutex
		var working sync.WaitGroup
		for n, p := range all {
			working.Go(func() {
				next := time.Now().Add(interval * time.Duration(n) / time.Duration(len(all)))
				var mine []time.Duration
				for range count {
					time.Sleep(time.Until(next))
					next = next.Add(interval)
					p.add()
					p.produce()
					mine = append(mine, p.end())
				}
				lock.Lock()
				defer lock.Unlock()
				latency = append(latency, mine...)
			})
		}
		working.Wait()
		return latency
	}
	perSecond := max(1, *rate / *producers)
	turns(3 * perSecond)
	for _, p := range all {
		p.repeated = 0
	}
	ready()
	began := time.Now()
	found := percentiles(turns(*seconds * perSecond))
	found["rate"] = found["count"] / time.Since(began).Seconds()
	for _, p := range all {
		found["repeated"] += float64(p.repeated)
	}
	return found
}
