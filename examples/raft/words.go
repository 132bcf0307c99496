package main

import (
	"fmt"
	"strconv"
	"strings"
)

// Requests, replies, log entries and snapshots are lines of words. A word is anything without
// spaces and quotes, or a string as Go quotes it. So keys and values may hold any bytes and a
// person can still read and type them.

// words splits a line.
func words(line string) ([]string, error) {
	var all []string
	for {
		line = strings.TrimLeft(line, " \t\r\n")
		if line == "" {
			return all, nil
		}
		if line[0] != '"' {
			end := strings.IndexAny(line, " \t\r\n")
			if end < 0 {
				end = len(line)
			}
			if strings.ContainsAny(line[:end], "\"`") {
				return nil, fmt.Errorf("a quote inside of %.40q: quote all of the word", line[:end])
			}
			all, line = append(all, line[:end]), line[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("no end of the quotes in %.40s", line)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("%.40s is not quoted as Go does it", quoted)
		}
		if line = line[len(quoted):]; line != "" && !strings.ContainsAny(line[:1], " \t\r\n") {
			return nil, fmt.Errorf("no space after %.40s", quoted)
		}
		all = append(all, word)
	}
}

// A request is a client's request.
//
//	get KEY
//	put CLIENT SEQUENCE KEY VALUE
//	cas CLIENT SEQUENCE KEY OLD NEW
//
// CLIENT is a name that nobody else uses, and SEQUENCE counts the changes of that client from 1: a
// change that is sent again, because no answer came, is made once.
type request struct {
	op       string
	client   string
	sequence uint64
	key      string
	old      string // of cas
	value    string
}

func parseRequest(line string) (q request, err error) {
	w, err := words(line)
	if err != nil {
		return q, err
	}
	if len(w) == 0 {
		return q, fmt.Errorf("an empty request: say get, put or cas")
	}
	form := map[string]string{"get": "get KEY", "put": "put CLIENT SEQUENCE KEY VALUE", "cas": "cas CLIENT SEQUENCE KEY OLD NEW"}[w[0]]
	if form == "" {
		return q, fmt.Errorf("unknown request %.40q: say get, put or cas", w[0])
	}
	if want := len(strings.Fields(form)); len(w) != want {
		return q, fmt.Errorf("%d words, want the %d of %s", len(w), want, form)
	}
	q.op = w[0]
	if q.op == "get" {
		q.key = w[1]
		return q, nil
	}
	q.client, q.key, q.value = w[1], w[3], w[len(w)-1]
	if q.op == "cas" {
		q.old = w[4]
	}
	if q.sequence, err = strconv.ParseUint(w[2], 10, 64); err != nil || q.sequence == 0 {
		return q, fmt.Errorf("the sequence %.40q is no number from 1", w[2])
	}
	return q, nil
}

func (q request) String() string {
	switch q.op {
	case "get":
		return fmt.Sprintf("get %q", q.key)
	case "put":
		return fmt.Sprintf("put %q %d %q %q", q.client, q.sequence, q.key, q.value)
	default:
		return fmt.Sprintf("cas %q %d %q %q %q", q.client, q.sequence, q.key, q.old, q.value)
	}
}

// A reply is a node's answer.
//
//	ok              the change was made
//	value VALUE     what get found; what cas found instead of OLD
//	none            there is no value
//	leader ADDRESS  ask there; "" if there is none now
//	again WHY       it is not known whether the change will be made: send it again
//	error WHY       the request is wrong, and nothing was done
type reply struct {
	kind, text string
}

// How many words follow the kind of a reply.
var replyForms = map[string]int{"ok": 0, "value": 1, "none": 0, "leader": 1, "again": 1, "error": 1}

func parseReply(line string) (reply, error) {
	w, err := words(line)
	if err != nil {
		return reply{}, err
	}
	if len(w) > 0 {
		if n, ok := replyForms[w[0]]; ok && len(w) == 1+n {
			return reply{w[0], strings.Join(w[1:], "")}, nil
		}
	}
	return reply{}, fmt.Errorf("not a reply: %.40q", line)
}

func (p reply) String() string {
	if replyForms[p.kind] == 0 {
		return p.kind
	}
	return fmt.Sprintf("%s %q", p.kind, p.text)
}
