// The client of scripts/bench coordinators: raw requests with as little work for the client as possible, since it runs beside the broker.
// `load MODE [flags]` prints `ready` when the measured part begins and one line of JSON when it ends.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	flags      = flag.NewFlagSet("load", flag.ExitOnError)
	bootstrap  = flags.String("bootstrap", "localhost:9092", "host:port")
	groupCount = flags.Int("groups", 1000, "groups")
	partitions = flags.Int("partitions", 100, "partitions of the topic, and offsets of a group")
	producers  = flags.Int("producers", 50, "transactional producers")
	rate       = flags.Int("rate", 1000, "transactions per second")
	seconds    = flags.Int("seconds", 20, "how long")
)

const topic = "bench"

func main() {
	modes := map[string]func() any{"groups": groups, "first": first, "fill": fill, "loaded": loaded, "transactions": transactions}
	mode, known := modes[os.Args[1]]
	if !known {
		panic("no mode " + os.Args[1])
	}
	check(flags.Parse(os.Args[2:]))
	text, err := json.Marshal(mode())
	check(err)
	fmt.Println(string(text))
}

func ready() { fmt.Println("ready") }

// percentiles of durations in milliseconds.
func percentiles(all []time.Duration) map[string]float64 {
	slices.Sort(all)
	at := func(share float64) float64 { return all[int(share*float64(len(all)-1))].Seconds() * 1000 }
	return map[string]float64{"count": float64(len(all)), "p50": at(0.5), "p99": at(0.99), "max": at(1)}
}

// coordinator waits until there is one for the key (0 groups, 1 transactions).
func coordinator(c *conn, key string, kind int8) {
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		request := kmsg.NewFindCoordinatorRequest()
		request.CoordinatorKey, request.CoordinatorType = key, kind
		code := c.call(&request, 2).(*kmsg.FindCoordinatorResponse).ErrorCode
		if code == 0 {
			return
		}
		if time.Now().After(end) {
			must(code, "no coordinator")
		}
	}
}

// create makes the topic and waits until it has leaders.
func create(c *conn, count int) {
	request := kmsg.NewCreateTopicsRequest()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = topic, int32(count), 1
	request.Topics, request.TimeoutMillis = []kmsg.CreateTopicsRequestTopic{one}, 30000
	for {
		code := c.call(&request, 4).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode
		// 38 (INVALID_REPLICATION_FACTOR), 41 (NOT_CONTROLLER): Apache Kafka answers before it knows itself.
		if code != 38 && code != 41 {
			must(code, "create")
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for {
		ask, named := kmsg.NewMetadataRequest(), kmsg.NewMetadataRequestTopic()
		named.Topic = kmsg.StringPtr(topic)
		ask.Topics = []kmsg.MetadataRequestTopic{named}
		found := c.call(&ask, 5).(*kmsg.MetadataResponse).Topics[0]
		led := 0
		for _, partition := range found.Partitions {
			if partition.ErrorCode == 0 {
				led++
			}
		}
		if led == count {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
