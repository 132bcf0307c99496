package coro

import "testing"

// Two switches: there and back.
func BenchmarkCross(b *testing.B) {
	var p Place
	over := false
	p.Init(func(yield func(struct{}) bool) {
		p.Yield = yield
		for !over {
			p.Cross()
		}
	})
	for b.Loop() {
		p.Cross()
	}
	over = true
	p.Cross()
}

func BenchmarkChannelRoundTrip(b *testing.B) {
	ping, pong := make(chan struct{}), make(chan struct{})
	go func() {
		for range ping {
			pong <- struct{}{}
		}
		close(pong)
	}()
	for b.Loop() {
		ping <- struct{}{}
		<-pong
	}
	close(ping)
	<-pong
}
