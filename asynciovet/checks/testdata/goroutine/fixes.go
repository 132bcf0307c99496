package goroutine

// CallSoonThreadsafe returns an error too, so it can replace a statement only.
func fixes(s *server) {
	go func() {
		s.loop.CallSoon(s.queue.TaskDone)           // want `asyncio.EventLoop.CallSoon is for the loop only`
		handle := s.loop.CallSoon(s.queue.TaskDone) // want `asyncio.EventLoop.CallSoon is for the loop only`
		handle.Cancel()
	}()
}
