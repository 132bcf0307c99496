// Package asynciogrpc has interceptors for grpc-go. With them, handlers are tasks of an asyncio
// loop, and the calls of a client suspend the calling task instead of blocking its loop. So data
// shared by handlers needs no lock. Connections, HTTP/2 and the generated code are gRPC's, on its
// goroutines.
//
//	func main() {
//		_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
//			l, err := asyncio.GetRunningLoop(ctx)
//			if err != nil {
//				return err
//			}
//			ln, err := net.Listen("tcp", ":8080")
//			if err != nil {
//				return err
//			}
//			srv := grpc.NewServer(
//				grpc.ChainUnaryInterceptor(asynciogrpc.UnaryServerInterceptor(l)),
//				grpc.ChainStreamInterceptor(asynciogrpc.StreamServerInterceptor(l)))
//			chat.RegisterChatServer(srv, &room{})
//			return asynciogrpc.Serve(ctx, srv, ln)
//		}))
//		…
//	}
//
// # How an RPC reaches the loop
//
//	grpc 1: An RPC on the server is one task. Its ctx, and the Context of its stream, have the
//	   values that gRPC put there, so metadata, the peer and grpc.SetHeader are as usual. The ctx
//	   leads to the loop. It ends when the client cancels, at the deadline that the client sent, and
//	   when the connection is lost. gRPC ends the RPC after the task has ended.
//	grpc 2: A blocking call of gRPC's (an RPC of a client, an operation on a stream) is made by a
//	   goroutine that lives as long as the call. The task is suspended. No worker of an executor is
//	   held, so any number of streams may be idle, each at the cost of that goroutine.
//	grpc 3: One task at a time may use a direction of a stream: RecvMsg and a client's Header
//	   receive; SendMsg, CloseSend and a server's SendHeader send.
//	grpc 4: A client's RPC belongs to the task that waits for it, because nobody else would end it.
//	   If a cancel, or the end of the task's context, ends the wait, it ends the RPC. The call
//	   returns only when its goroutine has ended, so that nothing uses its messages any more. If it
//	   has succeeded all the same, it returns that, and the cancel comes at the task's next await.
//	grpc 5: A server's RPC belongs to its handler, which ends it by returning. A cancel ends only
//	   the wait, and the goroutine goes on: a message that it receives is received by the next
//	   RecvMsg; one that it sends goes out before the next one, and before the end of an RPC without
//	   an error. It receives into a message of its own, so nothing uses RecvMsg's argument after the
//	   return. A message that was given to SendMsg is gRPC's, and must not be changed, as in gRPC
//	   itself.
//	grpc 6: What was ended on this side fails with the reason: an asyncio.CancelledError, or the
//	   cause of a context. That error also has a code for package status: Canceled or
//	   DeadlineExceeded. A status from the peer stays a status, whatever its code. It cancels no
//	   task.
//	grpc 7: gRPC makes a status of a handler's error as usual, except in these cases. A handler that
//	   ends as cancelled answers Unavailable. A panic is reported by the loop, as for any task, and
//	   the client sees Internal without the panic's text; likewise after a runtime.Goexit.
//	grpc 8: A closed loop answers all RPCs with Unavailable. A loop that closes ends the RPCs that
//	   its tasks wait for, and leaves no goroutine of theirs behind. An open stream that no task
//	   waits for is ended by its ctx, by its ClientConn, or by the collector.
//	grpc 9: On virtual time the clock stands still while such a goroutine is in a call, because only
//	   real time can end that. A server is sent the time that is left until a deadline, and counts
//	   it in real time. No task that waits for a time may keep a call from ending, so gRPC is not
//	   for simulated programs. Simulate what stands behind the handlers instead.
//
// # What still blocks
//
// Of a server, GracefulStop would block the loop until the handlers have ended, which they could
// not; use [GracefulStop] or [Serve] of this package. Stop may wait for handlers, too. Of a
// ClientConn, WaitForStateChange blocks; it belongs into asyncio.ToThread. Close and grpc.NewClient
// do not.
package asynciogrpc
