package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	membersOfGroup = 3
	groupsOfWorker = 20
)

var subscription = []byte{0, 0, 0, 0, 0, 1, 0, 5, 'b', 'e', 'n', 'c', 'h', 0xff, 0xff, 0xff, 0xff}

func joining(group, member string) *kmsg.JoinGroupRequest {
	request := kmsg.NewJoinGroupRequest()
	request.Group, request.MemberID, request.ProtocolType = group, member, "consumer"
	request.SessionTimeoutMillis, request.RebalanceTimeoutMillis = 45000, 60000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "range", subscription
	request.Protocols = []kmsg.JoinGroupRequestProtocol{protocol}
	return &request
}

func syncing(group string, joined *kmsg.JoinGroupResponse) *kmsg.SyncGroupRequest {
	request := kmsg.NewSyncGroupRequest()
	request.Group, request.MemberID, request.Generation = group, joined.MemberID, joined.Generation
	for _, member := range joined.Members {
		given := kmsg.NewSyncGroupRequestGroupAssignment()
		given.MemberID, given.MemberAssignment = member.MemberID, []byte("partitions")
		request.GroupAssignment = append(request.GroupAssignment, given)
	}
	return &request
}

func committing(group, member string, generation int32, from, to int, offset int64) *kmsg.OffsetCommitRequest {
	request := kmsg.NewOffsetCommitRequest()
	request.Group, request.MemberID, request.Generation = group, member, generation
	in := kmsg.NewOffsetCommitRequestTopic()
	in.Topic = topic
	for index := from; index < to; index++ {
		partition := kmsg.NewOffsetCommitRequestTopicPartition()
		partition.Partition, partition.Offset = int32(index), offset
		in.Partitions = append(in.Partitions, partition)
	}
	request.Topics = []kmsg.OffsetCommitRequestTopic{in}
	return &request
}

func committed(response kmsg.Response) {
	for _, partition := range response.(*kmsg.OffsetCommitResponse).Topics[0].Partitions {
		must(partition.ErrorCode, "commit")
	}
}

// worker holds some groups, the first member of each on one connection, the second on another, and so on.
type worker struct {
	conns   [membersOfGroup]*conn
	names   []string
	ids     [][membersOfGroup]string
	latency []time.Duration
}

// join makes one group: all members join within the initial delay, the leader assigns.
func (w *worker) join(group string) {
	for _, c := range w.conns {
		c.send(joining(group, ""), 3)
		c.flush()
	}
	var ids [membersOfGroup]string
	for n, c := range w.conns {
		joined := c.receive().(*kmsg.JoinGroupResponse)
		must(joined.ErrorCode, "join")
		if joined.Generation != 1 {
			panic(fmt.Sprintf("generation %d", joined.Generation))
		}
		ids[n] = joined.MemberID
		c.send(syncing(group, joined), 2)
		c.flush()
	}
	for _, c := range w.conns {
		must(c.receive().(*kmsg.SyncGroupResponse).ErrorCode, "sync")
	}
	w.names, w.ids = append(w.names, group), append(w.ids, ids)
}

// turn commits for every member of every group, three partitions each, and now and then tells that they are there.
func (w *worker) turn(offset int64, beats bool) {
	began := time.Now()
	for n, c := range w.conns {
		for g, group := range w.names {
			c.send(committing(group, w.ids[g][n], 1, 3*n, 3*n+3, offset), 7)
			if beats {
				beat := kmsg.NewHeartbeatRequest()
				beat.Group, beat.MemberID, beat.Generation = group, w.ids[g][n], 1
				c.send(&beat, 2)
			}
		}
		c.flush()
	}
	for _, c := range w.conns {
		for range w.names {
			committed(c.receive())
			if beats {
				must(c.receive().(*kmsg.HeartbeatResponse).ErrorCode, "heartbeat")
			}
		}
	}
	w.latency = append(w.latency, time.Since(began))
}

// groups: members that commit every second.
func groups() any {
	c := dial(*bootstrap)
	create(c, 3*membersOfGroup)
	coordinator(c, "group", 0)
	count := (*groupCount + groupsOfWorker - 1) / groupsOfWorker
	workers := make([]*worker, count)
	each := func(work func(n int, w *worker)) {
		var all sync.WaitGroup
		for n, w := range workers {
			all.Go(func() { work(n, w) })
		}
		all.Wait()
	}
	for n := range workers {
		workers[n] = &worker{}
		for m := range workers[n].conns {
			workers[n].conns[m] = dial(*bootstrap)
		}
	}
	each(func(n int, w *worker) {
		for g := n * groupsOfWorker; g < min((n+1)*groupsOfWorker, *groupCount); g++ {
			w.join(fmt.Sprintf("group-%d", g))
		}
	})
	turn := func(second int) {
		each(func(n int, w *worker) {
			// Not all in the same instant.
			time.Sleep(time.Second * time.Duration(n) / time.Duration(count))
			w.turn(int64(second), second%3 == 0)
		})
	}
	for warm := range 3 {
		began := time.Now()
		turn(warm)
		time.Sleep(time.Until(began.Add(time.Second)))
	}
	each(func(_ int, w *worker) { w.latency = nil })
	ready()
	for second := range *seconds {
		began := time.Now()
		turn(second)
		time.Sleep(time.Until(began.Add(time.Second)))
	}
	var latency []time.Duration
	for _, w := range workers {
		latency = append(latency, w.latency...)
	}
	return percentiles(latency)
}

// first: from the first request of a new consumer to its assignment, in ms: on a broker without __consumer_offsets, and later ones.
func first() any {
	c := dial(*bootstrap)
	create(c, 1)
	c.c.Close()
	assigned := func(group string) time.Duration {
		began := time.Now()
		c := dial(*bootstrap)
		defer c.c.Close()
		coordinator(c, group, 0)
		member := ""
		for {
			joined := c.call(joining(group, member), 5).(*kmsg.JoinGroupResponse)
			member = joined.MemberID
			switch joined.ErrorCode {
			case 79: // MEMBER_ID_REQUIRED
			case 14, 15, 16: // the coordinator is not there yet
				time.Sleep(time.Millisecond)
			default:
				must(joined.ErrorCode, "join")
				must(c.call(syncing(group, joined), 2).(*kmsg.SyncGroupResponse).ErrorCode, "sync")
				return time.Since(began)
			}
		}
	}
	found := map[string]float64{"first": assigned("first").Seconds() * 1000}
	var later []time.Duration
	for n := range 50 {
		later = append(later, assigned(fmt.Sprintf("later-%d", n)))
	}
	found["later"] = percentiles(later)["p50"]
	return found
}

// fill commits for groups of no members.
func fill() any {
	c := dial(*bootstrap)
	create(c, *partitions)
	coordinator(c, "group", 0)
	const workers = 4
	var all sync.WaitGroup
	for n := range workers {
		all.Go(func() {
			c := dial(*bootstrap)
			for g := n; g < *groupCount; g += workers {
				for {
					response := c.call(committing(fmt.Sprintf("group-%d", g), "", -1, 0, *partitions, int64(g)), 7)
					if code := response.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code == 14 || code == 16 {
						time.Sleep(10 * time.Millisecond)
						continue
					}
					committed(response)
					break
				}
			}
		})
	}
	all.Wait()
	return nil
}

// loaded waits until all groups of fill are there, and gives the nanoseconds of the clock then.
func loaded() any {
	c := dial(*bootstrap)
	for {
		request := kmsg.NewListGroupsRequest()
		response := c.call(&request, 2).(*kmsg.ListGroupsResponse)
		if response.ErrorCode == 0 && len(response.Groups) >= *groupCount {
			return map[string]int64{"at": time.Now().UnixNano()}
		}
		time.Sleep(5 * time.Millisecond)
	}
}
