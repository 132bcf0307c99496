package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// maxHead is more than an answer has beside its body.
const maxHead = 4 << 10

func request(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n", path, *port)
}

// get sends one request and waits for its answer. Later answers on the connection must have the
// same length.
func (c *conn) get(request, into []byte) error {
	if _, err := syscall.Write(c.fd, request); err != nil {
		return err
	}
	for c.whole = 0; ; {
		n, err := syscall.Read(c.fd, into[c.whole:])
		if err != nil {
			return err
		}
		if n == 0 {
			return errClosed
		}
		c.whole += n
		head := bytes.Index(into[:c.whole], []byte("\r\n\r\n"))
		if head < 0 || c.whole < head+4+*size {
			continue
		}
		answer := bytes.NewReader(into[:c.whole])
		resp, err := http.ReadResponse(bufio.NewReader(answer), nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if err == io.ErrUnexpectedEOF { // of chunks, whose overhead is not known before
			continue
		}
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || len(body) != *size || resp.Close || answer.Len() > 0 {
			return fmt.Errorf("the answer, of %d bytes, has the head\n%s", c.whole, into[:head])
		}
		return nil
	}
}

// answer is a server of HTTP/1.1 that looks for nothing but the end of a request.
func answer() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr().(*net.TCPAddr).Port)
	whole := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 30 Nov 2026 00:00:00 GMT\r\nContent-Length: %d\r\n\r\n%s", *size, strings.Repeat("x", *size))
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			buf := make([]byte, maxHead)
			for have := 0; have < len(buf); {
				n, err := c.Read(buf[have:])
				if err != nil {
					return
				}
				if have += n; bytes.HasSuffix(buf[:have], []byte("\r\n\r\n")) {
					have = 0
					if _, err := c.Write(whole); err != nil {
						return
					}
				}
			}
		}()
	}
}
