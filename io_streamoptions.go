package asyncio

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// DefaultStreamLimit is the limit, in bytes, of a [StreamReader] that was given none.
const DefaultStreamLimit = 64 << 10

// A StreamOption is an option of [OpenConnection], [StartServer] and related functions. Any
// goroutine may make one.
type StreamOption struct {
	limit     int
	tls       *tls.Config
	handshake time.Duration
	clients   int
	early     []byte // StartTLS: TLS bytes that have arrived already
	answers   bool   // TLSServer: a client that does not speak TLS
}

// StreamLimit sets how many bytes ReadLine and ReadUntil may return, not counting the separator.
// The default is [DefaultStreamLimit]. The limit must be positive, or StreamLimit panics with
// [ErrInvalidArgument]; math.MaxInt means no limit. Python: the limit argument.
func StreamLimit(bytes int) StreamOption {
	if bytes <= 0 {
		panic(fmt.Errorf("%w: limit %d (in StreamLimit)", ErrInvalidArgument, bytes))
	}
	return StreamOption{limit: bytes}
}

// StreamTLS puts TLS on the connection before it is handed out. A server needs a configuration with
// a certificate. A client whose configuration names no server verifies the host that it connects
// to. StreamTLS panics with [ErrInvalidArgument] if config is nil, because nil must not mean a
// connection without TLS. Python: the ssl argument.
func StreamTLS(config *tls.Config) StreamOption {
	if config == nil {
		panic(fmt.Errorf("%w: nil configuration (in StreamTLS); a client that needs nothing special gives new(tls.Config)", ErrInvalidArgument))
	}
	return StreamOption{tls: config}
}

// TLSHandshakeTimeout limits the duration of a TLS handshake; the default is 60 seconds. A
// handshake that takes longer fails with a [*TimeoutError]. It is also an option of [TLSClient],
// [TLSServer] and [StreamWriter.StartTLS]. It panics with [ErrInvalidArgument] if d is not
// positive. Python: the ssl_handshake_timeout argument.
func TLSHandshakeTimeout(d time.Duration) StreamOption {
	if d <= 0 {
		panic(fmt.Errorf("%w: a handshake cannot take %v (in TLSHandshakeTimeout)", ErrInvalidArgument, d))
	}
	return StreamOption{handshake: d}
}

// MaxClients makes a server accept a connection only while fewer than n are open. The others wait
// in the system's queue.
//
// With [StreamTLS] a connection counts once its handshake is done. At most n or 100 connections,
// whichever is more, can be in a handshake. If another one comes, the server drops the connection
// whose handshake has lasted longest. So peers that connect and say nothing do not keep others out.
//
// A client ignores this option. It panics with [ErrInvalidArgument] if n is not positive.
func MaxClients(n int) StreamOption {
	if n <= 0 {
		panic(fmt.Errorf("%w: %d clients (in MaxClients)", ErrInvalidArgument, n))
	}
	return StreamOption{clients: n}
}

func streamOptions(opts []StreamOption) (o StreamOption) {
	o.limit = DefaultStreamLimit
	for _, s := range opts {
		if s.limit > 0 {
			o.limit = s.limit
		}
		if s.tls != nil {
			o.tls = s.tls
		}
		if s.handshake > 0 {
			o.handshake = s.handshake
		}
		if s.clients > 0 {
			o.clients = s.clients
		}
	}
	return o
}

// StreamConn is the connection under a pair of streams: a [*Conn] or a [*TLSConn], which document
// its methods.
type StreamConn interface {
	net.Conn
	ReadContext(ctx context.Context, p []byte) (int, error)
	WriteContext(ctx context.Context, p []byte) (int, error)
	CloseWrite() error
	Abort() error
	connLoop() *EventLoop
	tooLate() bool
	readOn(ctx context.Context, t *task, p []byte, late bool) (int, error)
}

func (c *Conn) connLoop() *EventLoop { return c.loop }
