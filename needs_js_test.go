package asyncio_test

import (
	"flag"
	"strings"
)

// needs lists, by the missing feature, the tests that js cannot run, as regular expressions of
// their names.
var needs = map[string][]string{
	// There, package net connects only goroutines of the same program, and has no sockets of the
	// system.
	"sockets": {
		"(Test|Example|Fuzz).*(Conn|Conns|Dial|Listen|Listener|Server|Stream|Streams|TLS|Connection|Connections|Reader|Writer|ReadUntil)(_.*)?",
		"TestAddReader.*", "TestBusyLoopLooksAtConnections", "TestDeadline.*", "TestInterop.*", "TestLoopGroup_.*(Listen|Server|Connections).*",
		"TestReusePort.*", "TestScale.*", "TestAllocations_(Echo|Datagrams)", "Test.*Descriptor.*",
	},
	"a subprocess, as the go command is one": {
		"Test.*Subprocess", "TestExceptionHandler_LogPanics", "TestLoop_WaitFails", "TestGoexit_FailNowEndsTheTest", "TestImports", "TestModules", "TestRun_DebugByEnvironment",
		"TestForeign_Everything", "TestInstant_IsNoDuration", "TestRooms",
	},
	"signals": {"TestRun_SIGINT.*", "TestRun_HandleSignals.*", "Test.*Signals?"},
	// There is one thread, and goroutines are not preempted. Tests that race goroutines against
	// each other take minutes and show nothing.
	"threads": {
		"Test.*ConcurrentSafe", "TestContext_ManyDeadlines", "TestExecutor_SubmitAsTheWorkerEnds", "TestCallSoonThreadsafe_OrderWhileContextsEnd", "Test.*Watchdog.*", "TestLoopGroup_LoopsRunAtTheSameTime",
		"TestLoop_AMillionTimers", "TestReports_OfStallsSayWhere",
	},
}

func init() {
	skipped = func() error {
		var all []string
		for _, names := range needs {
			all = append(all, names...)
		}
		if also := flag.Lookup("test.skip").Value.String(); also != "" {
			all = append(all, also)
		}
		return flag.Set("test.skip", "^("+strings.Join(all, "|")+")$")
	}
}
