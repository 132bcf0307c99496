//go:build unix

package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/go-resty/resty/v2"
	redigo "github.com/gomodule/redigo/redis"
	gorilla "github.com/gorilla/websocket"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/lib/pq"
	"github.com/miekg/dns"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
	"github.com/goasyncio/asyncio/sim/simtest"
)

// A simulation is a library on a simulated network. Its server is a few lines that speak the
// protocol, as far as the library needs it. The simulations are named as the rows.
type simulation struct {
	serve  func(ctx context.Context, c net.Conn) error // nil for datagrams
	client func(ctx context.Context) error
}

// TestSimulated: three clients at a time, on one host, use a library with a server on another. It
// fails if two runs of a seed differ.
func TestSimulated(t *testing.T) {
	for name, s := range simulations {
		t.Run(name, func(t *testing.T) {
			opts := []sim.Option{sim.Runs(20), sim.SameShape()}
			if inBubble[name] {
				opts = append(opts, simtest.Bubble(t))
			}
			sim.Explore(t, func(ctx context.Context) error {
				server := sim.NewHost(ctx, "server", func(ctx context.Context) error {
					if s.serve == nil {
						return serveDatagrams(ctx)
					}
					ln, err := asyncio.Listen(ctx, "tcp", ":7000")
					if err != nil {
						return err
					}
					for {
						c, err := ln.AcceptContext(ctx)
						if err != nil {
							return err
						}
						asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
							defer c.Close()
							if err := s.serve(ctx, c); !errors.Is(err, io.EOF) {
								return err
							}
							return nil
						}))
					}
				})
				defer server.Kill()
				return sim.NewHost(ctx, "client", func(ctx context.Context) error {
					return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
						for range 3 {
							tg.CreateTask(ctx, s.client)
						}
						return nil
					})
				}).Wait(ctx)
			}, opts...)
		})
	}
}

// inBubble has the simulations of libraries that set timers: in a bubble these are of the simulated
// clock. pgx starts a goroutine if a write takes 15 milliseconds.
var inBubble = map[string]bool{"pgx on the view": true}

var simulations = map[string]simulation{
	"redigo as it is": {serveRedis, func(ctx context.Context) error {
		c, err := redigo.DialContext(ctx, "tcp", "server:7000", redigo.DialContextFunc(asyncio.DialContext))
		if err != nil {
			return err
		}
		defer c.Close()
		return answers(ctx, func(_ context.Context, value string) (string, error) { return redigo.String(c.Do("ECHO", value)) }, "hello")
	}},
	"net/smtp as it is": {serveSMTP, func(ctx context.Context) error {
		c, err := asyncio.Dial(ctx, "tcp", "server:7000")
		if err != nil {
			return err
		}
		return sendMail(c, "me@client", "you@server", "hello", "hello")
	}},
	"miekg/dns, TCP as it is": {serveDNS, func(ctx context.Context) error {
		c, err := asyncio.Dial(ctx, "tcp", "server:7000")
		if err != nil {
			return err
		}
		return answers(ctx, func(context.Context, string) (string, error) { return lookUp(c, "name.test.") }, "10.0.0.1")
	}},
	"miekg/dns, UDP as it is": {nil, func(ctx context.Context) error {
		c, err := asyncio.DialPacket(ctx, "udp", "server:7000")
		if err != nil {
			return err
		}
		return answers(ctx, func(context.Context, string) (string, error) { return lookUp(c, "name.test.") }, "10.0.0.1")
	}},
	"gorilla/websocket as it is": {serveWebSocket, func(ctx context.Context) error {
		c, err := gorillaClient(ctx, gorilla.Dialer{NetDialContext: asyncio.DialContext}, "ws://server:7000/")
		if err != nil {
			return err
		}
		defer c.close(ctx)
		return answers(ctx, c.ask, "hello")
	}},
	"net/http, Client a package (asynciohttp)": {serveHTTP, func(ctx context.Context) error {
		hc := &http.Client{Transport: &asynciohttp.Transport{}}
		return answers(ctx, func(ctx context.Context, value string) (string, error) {
			return getText(ctx, hc, "http://server:7000/"+value)
		}, "hello")
	}},
	"resty a package (asynciohttp)": {serveHTTP, func(ctx context.Context) error {
		rc := resty.New().SetTransport(&asynciohttp.Transport{})
		return answers(ctx, func(ctx context.Context, value string) (string, error) {
			response, err := rc.R().SetContext(ctx).Get("http://server:7000/" + value)
			if err != nil {
				return "", err
			}
			return response.String(), nil
		}, "hello")
	}},
	"pgx on the view": {servePostgres, func(ctx context.Context) error {
		config, err := pgx.ParseConfig("host=server port=7000 user=u dbname=d sslmode=disable")
		if err != nil {
			return err
		}
		config.DialFunc, config.LookupFunc = asyncio.ThreadsafeDialer(ctx), func(context.Context, string) ([]string, error) { return []string{"server"}, nil }
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		return answers(ctx, func(ctx context.Context, _ string) (string, error) {
			return asyncio.ToThread(ctx, func(ctx context.Context) (value string, err error) {
				c, err := pgx.ConnectConfig(ctx, config)
				if err != nil {
					return "", err
				}
				defer c.Close(ctx)
				err = c.QueryRow(ctx, "select 'hello'").Scan(&value)
				return value, err
			})
		}, "hello")
	}},
	"database/sql, lib/pq on the view": {servePostgres, func(ctx context.Context) error {
		connector, err := pq.NewConnector("host=server port=7000 user=u dbname=d sslmode=disable")
		if err != nil {
			return err
		}
		connector.Dialer(pqDialer(asyncio.ThreadsafeDialer(ctx)))
		db := sql.OpenDB(connector)
		defer db.Close()
		return answers(ctx, func(ctx context.Context, _ string) (string, error) {
			return scanner(db).inThread(ctx, "select 'hello'")
		}, "hello")
	}},
}

func serveRedis(_ context.Context, c net.Conn) error {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		if err != nil {
			return err
		}
		last := ""
		for range 2 * n {
			if last, err = r.ReadString('\n'); err != nil {
				return err
			}
		}
		last = strings.TrimSpace(last)
		if _, err := fmt.Fprintf(c, "$%d\r\n%s\r\n", len(last), last); err != nil {
			return err
		}
	}
}

func servePostgres(_ context.Context, c net.Conn) error {
	b := pgproto3.NewBackend(c, c)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return err
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	b.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"})
	b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}})
	for {
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		if err := b.Flush(); err != nil {
			return err
		}
		m, err := b.Receive()
		if err != nil {
			return err
		}
		if _, ok := m.(*pgproto3.Query); !ok {
			return nil
		}
		b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}})
		b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("hello")}})
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	}
}

func serveSMTP(_ context.Context, c net.Conn) error {
	lines := bufio.NewScanner(c)
	inMessage := false
	for reply := "220 hello"; ; reply = "250 ok" {
		if _, err := fmt.Fprintf(c, "%s\r\n", reply); err != nil {
			return err
		}
		for {
			if !lines.Scan() {
				return lines.Err()
			}
			if line := lines.Text(); line == "DATA" {
				inMessage = true
				if _, err := io.WriteString(c, "354 go on\r\n"); err != nil {
					return err
				}
			} else if line == "QUIT" {
				_, err := io.WriteString(c, "221 bye\r\n")
				return err
			} else if inMessage = inMessage && line != "."; !inMessage {
				break
			}
		}
	}
}

// dnsReply answers a question.
func dnsReply(question []byte) ([]byte, error) {
	m := new(dns.Msg)
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.SetReply(m.Copy())
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(10, 0, 0, 1)}}
	return m.Pack()
}

func serveDNS(_ context.Context, c net.Conn) error {
	for {
		var size uint16
		if err := binary.Read(c, binary.BigEndian, &size); err != nil {
			return err
		}
		question := make([]byte, size)
		if _, err := io.ReadFull(c, question); err != nil {
			return err
		}
		reply, err := dnsReply(question)
		if err != nil {
			return err
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...)); err != nil {
			return err
		}
	}
}

func serveDatagrams(ctx context.Context) error {
	pc, err := asyncio.ListenPacket(ctx, "udp", ":7000")
	if err != nil {
		return err
	}
	question := make([]byte, 512)
	for {
		n, from, err := pc.ReadFrom(question)
		if err != nil {
			return err
		}
		reply, err := dnsReply(question[:n])
		if err != nil {
			return err
		}
		if _, err := pc.WriteTo(reply, from); err != nil {
			return err
		}
	}
}

// serveWebSocket answers a short text message with what follows its first word.
func serveWebSocket(_ context.Context, c net.Conn) error {
	r := bufio.NewReader(c)
	request, err := http.ReadRequest(r)
	if err != nil {
		return err
	}
	accept := sha1.Sum([]byte(request.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(accept[:])); err != nil {
		return err
	}
	for {
		head := make([]byte, 6) // with the length and the mask
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		message := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(r, message); err != nil {
			return err
		}
		for i := range message {
			message[i] ^= head[2+i%4]
		}
		_, answer, _ := bytes.Cut(message, []byte(" "))
		if _, err := c.Write(append([]byte{0x81, byte(len(answer))}, answer...)); err != nil {
			return err
		}
	}
}

func serveHTTP(_ context.Context, c net.Conn) error {
	request, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return err
	}
	answer := strings.TrimPrefix(request.URL.Path, "/")
	_, err = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
	return err
}
