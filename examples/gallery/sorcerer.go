package gallery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
)

// A sender sends a file, one block in each datagram, and the next when the last is acknowledged.
// What is not acknowledged in time is sent again. The mistake is to send a block for each
// acknowledgment that comes, also for the second one of the same block: then that block is
// acknowledged twice as well, and everything up to the end of the file goes twice. It is enough
// that one acknowledgment is late.
//
// TFTP had it in its specification, and the name "the Sorcerer's Apprentice Syndrome":
// https://www.rfc-editor.org/rfc/rfc1123#page-44 (4.2.3.1)
type sender struct {
	mistake                     bool
	conn                        *asyncio.DatagramConn
	blocks, sent, repeated, due int // due is the block that is not acknowledged
}

func (s *sender) run(ctx context.Context) (err error) {
	if s.conn, err = asyncio.DialPacket(ctx, "udp", "receiver"+port); err != nil {
		return gone(err) // this file is not sent
	}
	defer s.conn.Close()
	s.due = 1
	if err := s.send(ctx, 1); err != nil {
		return err
	}
	for s.due <= s.blocks && s.repeated < 20 {
		block := 0
		err := asyncio.FailAfter(ctx, 300*time.Millisecond, func(ctx context.Context) (err error) {
			block, err = s.acknowledged(ctx)
			return err
		})
		switch {
		case errors.Is(err, asyncio.ErrTimeout):
			s.repeated++
			err = s.send(ctx, s.due)
		case err == nil && block == s.due:
			s.due++
			err = s.send(ctx, s.due)
		case err == nil && s.mistake:
			// BUG: it was sent when the block was acknowledged for the first time
			err = s.send(ctx, block+1)
		}
		if err != nil {
			return err
		}
	}
	if s.sent > s.blocks+s.repeated {
		return fmt.Errorf("%d datagrams for %d blocks, and %d came too late", s.sent, s.blocks, s.repeated)
	}
	return nil
}

func (s *sender) send(ctx context.Context, block int) error {
	if block > s.blocks {
		return nil
	}
	s.sent++
	_, err := s.conn.WriteContext(ctx, []byte(strconv.Itoa(block)))
	return gone(err) // a refusal is as good as a loss
}

func (s *sender) acknowledged(ctx context.Context) (int, error) {
	for buffer := make([]byte, 16); ; {
		n, err := s.conn.ReadContext(ctx, buffer)
		if err == nil {
			return strconv.Atoi(string(buffer[:n]))
		}
		// A refusal that comes with the end of the time is no answer either: the next read says so.
		if !errors.Is(err, syscall.ECONNREFUSED) && (gone(err) != nil || ctx.Err() != nil) {
			return 0, err
		}
	}
}

// acknowledger receives blocks and acknowledges each.
func acknowledger(ctx context.Context) error {
	c, err := asyncio.ListenPacket(ctx, "udp", port)
	if err != nil {
		return err
	}
	defer c.Close()
	for buffer := make([]byte, 16); ; {
		n, from, err := c.ReadFromContext(ctx, buffer)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(buffer[:n], from); err != nil {
			return err
		}
	}
}

// acknowledgedTwice is a receiver, and a sender of some files. It must not send more than the
// blocks and what it has repeated.
func acknowledgedTwice(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("receiver", acknowledger)
		s.client("sender", func(ctx context.Context) error {
			for range 5 {
				if err := (&sender{mistake: mistake, blocks: 8}).run(ctx); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, 2*think); err != nil {
					return err
				}
			}
			return nil
		})
		return nil
	})
}
