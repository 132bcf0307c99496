package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The servers and clients in Go have every row that they are said to have.
func TestHTTP(t *testing.T) {
	s, err := newSuite()
	if err != nil {
		t.Fatal(err)
	}
	s.build = t.TempDir()
	few := slices.Clone(webs)
	for i := range few {
		few[i].conns = min(few[i].conns, 300)
	}
	res := new(results)
	todo, err := s.prepareWeb(few, res)
	if err != nil {
		t.Fatal(err)
	}
	if len(todo) < len(webs) && os.Getenv("CI") == "true" {
		t.Errorf("not all rows are possible: %v", res.absent)
	}
	for _, v := range webPeers {
		i := slices.IndexFunc(candidates, func(c candidate) bool { return c.name == v.program })
		if i < 0 {
			t.Errorf("%s is of %s, which is no program", v.name, v.program)
			continue
		}
		if v.program != library && v.program != goroutines {
			continue
		}
		p, err := s.find(candidates[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range todo {
			if !v.has(w) {
				continue
			}
			measured, err := s.measureWeb(p, w, true)
			if err != nil {
				t.Error(err)
				continue
			}
			if cost := median(measured.cpu); !(cost > 0) {
				t.Errorf("%s of %s costs %v", w.row, v.name, cost)
			}
		}
		wrong := todo[0]
		wrong.kind = "no such kind"
		if _, err := s.measureWeb(p, wrong, true); err == nil || !strings.Contains(err.Error(), "usage: serve") {
			t.Errorf("a server that does not exist: %v", err)
		}
	}
}

// Rows that need a program that is not there are left out, and named.
func TestHTTP_Absent(t *testing.T) {
	s, err := newSuite()
	if err != nil {
		t.Fatal(err)
	}
	s.build = t.TempDir()
	t.Setenv("CGO_ENABLED", "0")
	path := os.Getenv("PATH")
	only := t.TempDir() // has go, and no h2load
	for dir := range strings.SplitSeq(path, ":") {
		if _, err := os.Stat(dir + "/go"); err == nil {
			if err := os.Symlink(dir+"/go", only+"/go"); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	t.Setenv("PATH", only)
	res := new(results)
	todo, err := s.prepareWeb(webs, res)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range todo {
		if w.kind == http2 {
			t.Errorf("%s is possible without h2load", w.row)
		}
	}
	if !slices.ContainsFunc(res.absent, func(s string) bool { return strings.Contains(s, "nghttp2-client") }) {
		t.Errorf("absent: %v", res.absent)
	}
}
