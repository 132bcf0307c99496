package main

import (
	"strings"
	"testing"
)

func TestStore(t *testing.T) {
	s := newStore()
	for _, step := range []struct{ request, reply string }{
		{"put a 1 k x", "ok"},
		{"put b 1 k y", "ok"},
		{"put a 1 k x", "ok"}, // again: it was made before y
		{"cas a 2 k x z", `value "y"`},
		{"cas a 2 k y z", `value "y"`}, // the sequence says that it is the same
		{"cas a 3 k y z", "ok"},
		{"cas a 3 k y z", "ok"},
		{"cas b 2 other x z", "none"},
		{`cas b 3 other "" z`, "none"}, // nothing is not the empty string
		{`put b 4 other ""`, "ok"},
		{`cas b 5 other "" z`, "ok"},
		{"put a 2 k late", `error "client \"a\" has gone on to 3"`},
		{"put c 7 " + `"\xff\n \"" "\x00"`, "ok"},
	} {
		q, err := parseRequest(step.request)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseRequest(q.String()); err != nil || again != q {
			t.Errorf("%v is read as %v, %v", q, again, err)
		}
		// A restored store goes on like the original.
		restored, err := restoreStore(s.snapshot())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*store{s, restored} {
			if p := s.apply(q); p.String() != step.reply {
				t.Errorf("%s: %v, want %s", step.request, p, step.reply)
			}
		}
		if a, b := string(s.snapshot()), string(restored.snapshot()); a != b {
			t.Errorf("after %s: a snapshot of\n%s, restored\n%s", step.request, a, b)
		}
	}
	for key, want := range map[string]string{"k": `value "z"`, "other": `value "z"`, "\xff\n \"": `value "\x00"`, "nothing": "none"} {
		if p := s.get(key).String(); p != want {
			t.Errorf("%q: %s, want %s", key, p, want)
		}
	}
}

func TestStore_RestoreDamaged(t *testing.T) {
	for _, snapshot := range []string{"value k\n", "client c x \"ok\"\n", "client c 1 \"nonsense\"\n", "else\n", "value \"k v\n"} {
		if _, err := restoreStore([]byte(snapshot)); err == nil {
			t.Errorf("%q was restored", snapshot)
		}
	}
}

func TestRequest_Errors(t *testing.T) {
	for line, want := range map[string]string{
		"":                    "empty",
		"  \n":                "empty",
		"delete k":            "say get, put or cas",
		"get":                 "want the 2 of get KEY",
		"get a b":             "want the 2",
		"put c 1 k":           "want the 5 of put CLIENT SEQUENCE KEY VALUE",
		"put c 0 k v":         "no number from 1",
		"put c -1 k v":        "no number",
		"cas c 1 k v":         "want the 6",
		`get "k`:              "no end of the quotes",
		`get "k"v`:            "no space after",
		`get k"v"`:            "quote all of the word",
		`get "` + "\n" + `"`:  "no end of the quotes",
		"get `k`":             "quote all of the word",
		`put c 1 k "\q"`:      "no end of the quotes",
		"put c 1e3 k v":       "no number",
		"get \"\\xff\" extra": "want the 2",
	} {
		if q, err := parseRequest(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want an error with %q", line, q, err, want)
		}
	}
}

func TestReply(t *testing.T) {
	for _, line := range []string{"ok", "none", `value ""`, `value "a b"`, `leader "host:1"`, `again "x"`, `error "\x00"`} {
		if p, err := parseReply(line + "\n"); err != nil || p.String() != line {
			t.Errorf("%s: %v, %v", line, p, err)
		}
	}
	for _, line := range []string{"", "ok ok", "value", "what", `value "`, `value a b`} {
		if p, err := parseReply(line); err == nil {
			t.Errorf("%q: %v", line, p)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(`cas a 1 "k" "\xff" x`)
	f.Add(`get "`)
	f.Fuzz(func(t *testing.T, line string) {
		q, err := parseRequest(line)
		if err != nil {
			return
		}
		if again, err := parseRequest(q.String()); err != nil || again != q {
			t.Errorf("%v is read as %v, %v", q, again, err)
		}
	})
}
