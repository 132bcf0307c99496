package lab_test

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/lab"
)

// limits are small enough for any program to end at once.
var limits = lab.Limits{Steps: 20_000, Bytes: 16 << 20, Recursion: 200}

// FuzzRun runs any text: it must end, with a status that says how, and not by an error of the
// interpreter.
func FuzzRun(f *testing.F) {
	for _, dir := range []string{"tutorial", "programs"} {
		paths, err := filepath.Glob(filepath.Join("testdata", dir, "*.py"))
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			f.Add(readFile(f, path))
		}
	}
	for _, src := range hostile {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		var stderr strings.Builder
		begin := time.Now()
		r := lab.Run(context.Background(), src, lab.Options{Stdout: io.Discard, Stderr: &stderr, Virtual: true, Limits: limits})
		if r.Status == 70 || strings.Contains(stderr.String(), "lab: ") {
			t.Errorf("status %d: %s", r.Status, stderr.String())
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// hostile programs want more than there is.
var hostile = []string{
	"while True: pass",
	"def f(): f()\nf()",
	"x = [0]\nwhile True: x += x",
	"x = 'a'\nwhile True: x += x",
	"print(10 ** 10 ** 10)",
	"list(range(10 ** 12))",
	"'x' * 10 ** 12",
	"x = []\nx.append(x)\nprint(x)\nx == [x]",
	"x = ()\nfor i in range(100000): x = (x,)\nprint(x)",
	"import itertools\nsum(itertools.count())",
	"import asyncio\nasync def f():\n    while True:\n        await asyncio.sleep(0)\nasyncio.run(f())",
	"import asyncio\nasync def f():\n    while True:\n        asyncio.create_task(f())\n        await asyncio.sleep(1)\nasyncio.run(f())",
	"import asyncio\nasync def f():\n    try:\n        await f()\n    finally:\n        await f()\nasyncio.run(f())",
	"import asyncio\nasync def f():\n    while True:\n        try:\n            await asyncio.sleep(1)\n        except BaseException:\n            pass\nasyncio.run(asyncio.wait_for(f(), 1))",
	"class A:\n    def __getattr__(self, n): return getattr(self, n)\nA().x",
	"class A:\n    def __eq__(self, o): return self == o\nA() == A()",
	"class A:\n    def __repr__(self): return repr(self)\nprint(A())",
	"class A:\n    def __hash__(self): return hash(self)\n{A()}",
	"class A:\n    def __iter__(self): return self\n    def __next__(self): return 1\nlist(A())",
	"class A:\n    def __del__(self): pass\n    __call__ = property(lambda s: s)\nA()()",
	"def g():\n    yield from g()\nlist(g())",
	"f = lambda: 0\nfor i in range(10000): f = (lambda g: lambda: g())(f)\nf()",
	"(((((((((((((((((((((((((((((((1)))))))))))))))))))))))))))))))",
	strings.Repeat("(", 1000),
	strings.Repeat("-", 5000) + "1",
	"x = " + strings.Repeat("[", 150) + strings.Repeat("]", 150),
	"print(f\"{f'{f\"{1}\"}'}\")",
	"import time\ntime.sleep(1e18)",
	"import asyncio\nasyncio.run(asyncio.sleep(1e300))",
	"import asyncio\nasync def f():\n    await asyncio.gather(*[f() for _ in range(10)])\nasyncio.run(f())",
	"import asyncio\nasync def main():\n    t = asyncio.current_task()\n    await t\nasyncio.run(main())",
	"import asyncio\nasync def main():\n    raise SystemExit\nasyncio.run(main())",
	"import asyncio\nloop = asyncio.new_event_loop()\nloop.run_forever()",
	"import asyncio\nasync def main():\n    asyncio.get_running_loop().close()\nasyncio.run(main())",
	"import asyncio\nasync def main():\n    asyncio.get_running_loop().run_forever()\nasyncio.run(main())",
	"import asyncio\nasync def g():\n    yield 1\n    await asyncio.sleep(1)\nasync def main():\n    await asyncio.gather(anext(g()), anext(g()))\nasyncio.run(main())",
}
