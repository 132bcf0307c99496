package asyncio_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// A rogue is a hand-made TLS 1.3 client, because crypto/tls sends no KeyUpdate on its own. It
// trusts everybody, and speaks only TLS_AES_128_GCM_SHA256 with X25519 (RFC 8446).
type rogue struct {
	c          *asyncio.Conn
	transcript bytes.Buffer
	secret     []byte // of its own records
	seal       func(kind byte, data []byte) []byte
}

// expand is HKDF-Expand-Label.
func expand(secret []byte, label string, hash []byte, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len("tls13 "+label)))
	info = append(info, "tls13 "+label...)
	info = append(append(info, byte(len(hash))), hash...)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return out
}

func extract(salt, secret []byte) []byte {
	out, err := hkdf.Extract(sha256.New, secret, salt)
	if err != nil {
		panic(err)
	}
	return out
}

func hashOf(p []byte) []byte { h := sha256.Sum256(p); return h[:] }

// keysOf returns the cipher of a traffic secret and the nonces of its records in turn.
func keysOf(secret []byte) (cipher.AEAD, func() []byte) {
	block, err := aes.NewCipher(expand(secret, "key", nil, 16))
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	iv, n := expand(secret, "iv", nil, 12), uint64(0)
	return aead, func() []byte {
		nonce := bytes.Clone(iv)
		binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(iv[4:])^n)
		n++
		return nonce
	}
}

func record(kind byte, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind, 3, 3}, uint16(len(data))), data...)
}

// use makes the rogue send with the keys of secret from here on.
func (p *rogue) use(secret []byte) {
	aead, nonce := keysOf(secret)
	p.secret = secret
	p.seal = func(kind byte, data []byte) []byte {
		inner := append(bytes.Clone(data), kind)
		head := record(23, make([]byte, len(inner)+aead.Overhead()))[:5]
		return aead.Seal(head, nonce(), inner, head)
	}
}

// update returns a KeyUpdate that asks for one in return, and switches to the new keys.
func (p *rogue) update() []byte {
	r := p.seal(22, []byte{24, 0, 0, 1, 1})
	p.use(expand(p.secret, "traffic upd", nil, 32))
	return r
}

// next reads a record, and skips those meant for old middleboxes.
func (p *rogue) next() (head, data []byte, err error) {
	for {
		head = make([]byte, 5)
		if _, err := io.ReadFull(p.c, head); err != nil {
			return nil, nil, err
		}
		data = make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(p.c, data); err != nil || head[0] != 20 {
			return head, data, err
		}
	}
}

func (p *rogue) handshake() error {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	hello := append([]byte{3, 3}, rand.Text()[:16]+rand.Text()[:16]...)
	hello = append(hello, 0, 0, 2, 0x13, 0x01, 1, 0) // no session, the cipher, no compression
	extensions := []byte{
		0, 43, 0, 3, 2, 3, 4, // TLS 1.3
		0, 10, 0, 4, 0, 2, 0, 29, // X25519
		0, 13, 0, 4, 0, 2, 4, 3, // ECDSA with P-256 and SHA-256
		0, 51, 0, 38, 0, 36, 0, 29, 0, 32, // the key
	}
	extensions = append(extensions, key.PublicKey().Bytes()...)
	hello = append(binary.BigEndian.AppendUint16(hello, uint16(len(extensions))), extensions...)
	hello = append([]byte{1, 0, 0, byte(len(hello))}, hello...)
	p.transcript.Write(hello)
	if _, err := p.c.Write(record(22, hello)); err != nil {
		return err
	}

	_, answer, err := p.next()
	if err != nil {
		return err
	}
	p.transcript.Write(answer)
	at := bytes.LastIndex(answer, []byte{0, 51, 0, 36, 0, 29, 0, 32})
	if answer[0] != 2 || at < 0 {
		return fmt.Errorf("the server says %x", answer)
	}
	peer, err := ecdh.X25519().NewPublicKey(answer[at+8 : at+40])
	if err != nil {
		return err
	}
	shared, err := key.ECDH(peer)
	if err != nil {
		return err
	}
	zero, nothing := make([]byte, 32), hashOf(nil)
	secret := extract(expand(extract(nil, zero), "derived", nothing, 32), shared)
	ours := expand(secret, "c hs traffic", hashOf(p.transcript.Bytes()), 32)
	aead, nonce := keysOf(expand(secret, "s hs traffic", hashOf(p.transcript.Bytes()), 32))
	for finished := false; !finished; {
		head, data, err := p.next()
		if err != nil {
			return err
		}
		plain, err := aead.Open(nil, nonce(), data, head)
		if err != nil {
			return err
		}
		plain = bytes.TrimRight(plain, "\x00")
		plain = plain[:len(plain)-1] // the kind
		p.transcript.Write(plain)
		for len(plain) > 4 && !finished { // each message here is in one record
			finished = plain[0] == 20
			plain = plain[min(len(plain), 4+int(plain[1])<<16+int(plain[2])<<8+int(plain[3])):]
		}
	}
	sum := hashOf(p.transcript.Bytes())
	mac := hmac.New(sha256.New, expand(ours, "finished", nil, 32))
	mac.Write(sum)
	p.use(ours)
	if _, err := p.c.Write(p.seal(22, append([]byte{20, 0, 0, 32}, mac.Sum(nil)...))); err != nil {
		return err
	}
	p.use(expand(extract(expand(secret, "derived", nothing, 32), zero), "c ap traffic", sum, 32))
	return nil
}

// A peer keeps asking for new keys and reads none of the answers, while a writer is blocked. It is
// refused before the answers fill the memory. A peer that asks for fewer is served (tls 4).
func TestTLS_KeyUpdates(t *testing.T) {
	_, config := configs(t)
	for _, c := range []struct {
		updates int
		refused bool
	}{{200, false}, {20_000, true}} {
		onSockets(t, func(t *testing.T, ctx context.Context) error {
			client, server := connect(t, ctx)
			// Small buffers of a fixed size: otherwise the system accepts megabytes of answers as
			// long as it has room for them, and nothing piles up.
			if err := errors.Join(client.SetReadBuffer(64<<10), server.SetWriteBuffer(64<<10)); err != nil {
				return err
			}
			p := &rogue{c: client}
			peer := start(ctx, func(context.Context) error { return p.handshake() })
			secure, err := asyncio.TLSServer(ctx, server, config)
			if err != nil {
				return errors.Join(err, ended(ctx, peer))
			}
			if err := ended(ctx, peer); err != nil {
				return err
			}
			writer := start(ctx, func(ctx context.Context) error {
				_, err := secure.Write(make([]byte, 64<<20))
				return err
			})
			flood := start(ctx, func(context.Context) error {
				var all []byte
				for range c.updates {
					all = append(append(all, p.update()...), p.seal(23, []byte("x"))...)
				}
				_, err := client.Write(all)
				return err
			})
			n, err := io.ReadFull(secure, make([]byte, c.updates))
			if !c.refused && err != nil {
				t.Errorf("%d updates: read %d bytes, %v", c.updates, n, err)
			}
			var failed *net.OpError
			if c.refused && (!errors.As(err, &failed) || !strings.Contains(err.Error(), "new keys") || n == c.updates) {
				t.Errorf("%d updates: read %d bytes, %v", c.updates, n, err)
			}
			if writer.Done() {
				t.Error("the writer was not blocked")
			}
			if err := secure.Abort(); err != nil {
				return err
			}
			client.Abort()
			_, _, _ = asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{writer, flood})
			for _, task := range []*asyncio.Task[asyncio.None]{writer, flood} {
				if err := task.Exception(); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "broken pipe") {
					t.Error(err)
				}
			}
			return nil
		})
	}
}
