package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A store is the state machine: the keys and values, and the last change of each client, so that a
// repeated change is made once. The same changes in the same order make the same store, and the
// same store makes the same snapshot, byte for byte.
//
//	store 1: A change with the sequence of its client's last one gets the same answer as that, and
//	   changes nothing.
//	store 2: A change with a smaller sequence changes nothing: the client has gone on, so nobody
//	   waits for it.
type store struct {
	values  map[string]string
	clients map[string]session
}

// session is the record of a client: its last change, and the answer to it.
type session struct {
	sequence uint64
	reply    reply
}

func newStore() *store {
	return &store{values: make(map[string]string), clients: make(map[string]session)}
}

func (s *store) get(key string) reply {
	if v, ok := s.values[key]; ok {
		return reply{"value", v}
	}
	return reply{kind: "none"}
}

// apply makes a change.
func (s *store) apply(q request) reply {
	last := s.clients[q.client]
	switch {
	case q.sequence == last.sequence:
		return last.reply // a repeated change gets its first answer (store 1)
	case q.sequence < last.sequence:
		// the client has gone on (store 2)
		return reply{"error", fmt.Sprintf("client %q has gone on to %d", q.client, last.sequence)}
	}
	p := reply{kind: "ok"}
	if old, ok := s.values[q.key]; q.op == "cas" && (!ok || old != q.old) {
		p = s.get(q.key)
	} else {
		s.values[q.key] = q.value
	}
	s.clients[q.client] = session{q.sequence, p}
	return p
}

// snapshot returns the whole store.
func (s *store) snapshot() []byte {
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		fmt.Fprintf(&b, "value %q %q\n", key, s.values[key])
	}
	for _, name := range slices.Sorted(maps.Keys(s.clients)) {
		c := s.clients[name]
		fmt.Fprintf(&b, "client %q %d %q\n", name, c.sequence, c.reply.String())
	}
	return b.Bytes()
}

// restoreStore makes a store from a snapshot.
func restoreStore(snapshot []byte) (*store, error) {
	s := newStore()
	for line := range strings.Lines(string(snapshot)) {
		w, err := words(line)
		switch {
		case err != nil:
		case len(w) == 3 && w[0] == "value":
			s.values[w[1]] = w[2]
		case len(w) == 4 && w[0] == "client":
			var c session
			if c.sequence, err = strconv.ParseUint(w[2], 10, 64); err == nil {
				c.reply, err = parseReply(w[3])
			}
			s.clients[w[1]] = c
		default:
			err = fmt.Errorf("neither a value nor a client")
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot: %.80q: %w", line, err)
		}
	}
	return s, nil
}
