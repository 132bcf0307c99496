package coro

import "testing"

func BenchmarkSwitch(b *testing.B) {
	c := start(func(c *Coro) {
		for c.Yield(Suspended) {
		}
	})
	for b.Loop() {
		c.Resume()
	}
	<-c.Kill()
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
