package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one connection: requests may be sent ahead, answers are read in their order.
type conn struct {
	c       net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	format  *kmsg.RequestFormatter
	last    int32
	expects []kmsg.Request
	frame   []byte
}

func dial(address string) *conn {
	c, err := net.Dial("tcp", address)
	check(err)
	return &conn{c: c, r: bufio.NewReader(c), w: bufio.NewWriter(c), format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("load"))}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func (c *conn) send(request kmsg.Request, version int16) {
	request.SetVersion(version)
	c.last++
	c.frame = c.format.AppendRequest(c.frame[:0], request, c.last)
	_, err := c.w.Write(c.frame)
	check(err)
	c.expects = append(c.expects, request)
}

func (c *conn) flush() { check(c.w.Flush()) }

func (c *conn) receive() kmsg.Response {
	var size [4]byte
	_, err := io.ReadFull(c.r, size[:])
	check(err)
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(c.r, body)
	check(err)
	request := c.expects[0]
	c.expects = c.expects[1:]
	response := request.ResponseKind()
	response.SetVersion(request.GetVersion())
	body = body[4:]
	if response.IsFlexible() && response.Key() != 18 {
		body = body[1:]
	}
	check(response.ReadFrom(body))
	return response
}

func (c *conn) call(request kmsg.Request, version int16) kmsg.Response {
	c.send(request, version)
	c.flush()
	return c.receive()
}

func must(code int16, what string) {
	if code != 0 {
		panic(fmt.Sprintf("%s: error %d", what, code))
	}
}
