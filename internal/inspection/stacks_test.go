package inspection_test

import (
	"testing"

	"github.com/goasyncio/asyncio/internal/inspection"
)

func TestProgramsPlace(t *testing.T) {
	for _, tt := range []struct{ name, stack, want string }{
		{"none", "", ""},
		{"computing", "goroutine 8 [running]:\nmain.main.func1({0x1, 0x2})\n\t/src/app/main.go:37 +0x353\n", "/src/app/main.go:37"},
		{"in the standard library", "goroutine 8 [sleep]:\ntime.Sleep(0x3b9)\n\t/usr/local/go/src/runtime/time.go:363 +0x165\nencoding/json.(*Decoder).Decode(0x1)\n\t/usr/local/go/src/encoding/json/stream.go:9 +0x1\nexample.com/app/store.(*Store).load(0x1)\n\t/src/app/store/store.go:12 +0x1\n", "/src/app/store/store.go:12"},
		{"-trimpath", "goroutine 8 [sleep]:\nos.ReadFile(0x1)\n\tos/file.go:1 +0x1\nmyapp/web.serve(...)\n\tmyapp/web/web.go:5 +0x1\n", "myapp/web/web.go:5"},
		{"a module without a dot", "goroutine 8 [sleep]:\nmyapp/web.serve(...)\n\t/home/me/web/web.go:5 +0x1\n", "/home/me/web/web.go:5"},
		{"generic", "goroutine 8 [running]:\nexample.com/a.Map[go.shape.struct { example.com/b.X }](...)\n\t/src/a/a.go:3 +0x1\n", "/src/a/a.go:3"},
		{"in this library only", "goroutine 8 [running]:\ngithub.com/goasyncio/asyncio.(*Lock).Acquire(0x1)\n\t/src/asyncio/sync_lock.go:3 +0x1\ncreated by iter.Pull[...] in goroutine 7\n\t/usr/local/go/src/iter/iter.go:271 +0x90\n", ""},
		{"an example of this library", "goroutine 8 [running]:\ngithub.com/goasyncio/asyncio/examples/chat.serve(0x1)\n\t/src/asyncio/examples/chat/main.go:3 +0x1\n", "/src/asyncio/examples/chat/main.go:3"},
	} {
		if got := inspection.ProgramsPlace(tt.stack); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
