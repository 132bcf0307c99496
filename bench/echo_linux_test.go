package main

import (
	"slices"
	"testing"
)

// The servers in Go answer the load, over few connections and over many.
func TestServers(t *testing.T) {
	s, err := newSuite()
	if err != nil {
		t.Fatal(err)
	}
	s.build = t.TempDir()
	todo, err := s.prepareEcho([]echo{{"few", "", 3, 64, 1}, {"many", "", 300, 64, 1}, {"long", "", 3, 64 << 10, 1}}, new(results))
	if err != nil || len(todo) != 3 {
		t.Fatal(todo, err)
	}
	for _, v := range servers {
		i := slices.IndexFunc(candidates, func(c candidate) bool { return c.name == v.program })
		if i < 0 {
			t.Errorf("%s is a server of %s, which is no program", v.name, v.program)
			continue
		}
		if v.program != library && v.program != goroutines {
			continue
		}
		p, err := s.find(candidates[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range todo {
			if _, _, _, err := s.measureEcho(p, v.kind, e, true); err != nil {
				t.Error(err)
			}
		}
		if _, _, _, err := s.measureEcho(p, "no such kind", todo[0], true); err == nil {
			t.Error("a server that does not exist was measured")
		}
	}
	for _, g := range echoTargets {
		if !slices.ContainsFunc(servers, func(v server) bool { return v.name == g.against }) {
			t.Errorf("a target is against %s, which is no server", g.against)
		}
	}
}
