package checks

import (
	"go/ast"
	"go/types"
	"strings"
)

// What to do instead of a call that blocks.
const (
	inThread   = "call it in asyncio.ToThread"
	useGroup   = "use an asyncio.TaskGroup, or wait in asyncio.ToThread"
	useDial    = "use asyncio.Dial"
	useServe   = "use asynciohttp.Serve"
	useHTTP    = "use an http.Client with an asynciohttp.Transport"
	useProcess = "use asyncio.CreateSubprocessExec"
	useAccept  = "use an asyncio.Listener"
	useConn    = "use an asyncio.Conn"
	useSQL     = "use package asynciosql, or call it in asyncio.ToThread"
)

// blockers has the functions of the standard library that block for as long as somebody or
// something else takes, and what to do instead, with one that belongs there. It lacks what is short
// on a machine that works, such as reading a small file, and methods of interfaces, which the
// library implements too.
var blockers = table(map[string]string{
	"time": "Sleep: use asyncio.Sleep",

	"net": `Dial DialTimeout DialTCP DialUnix Dialer.Dial Dialer.DialContext
		Dialer.DialTCP Dialer.DialUnix: ` + useDial + `
		LookupAddr LookupCNAME LookupHost LookupIP LookupMX LookupNS LookupPort LookupSRV LookupTXT
		Resolver.LookupAddr Resolver.LookupCNAME Resolver.LookupHost Resolver.LookupIP
		Resolver.LookupIPAddr Resolver.LookupMX Resolver.LookupNS Resolver.LookupNetIP
		Resolver.LookupPort Resolver.LookupSRV Resolver.LookupTXT: ` + inThread + `
		TCPListener.Accept TCPListener.AcceptTCP UnixListener.Accept UnixListener.AcceptUnix: ` + useAccept + `
		conn.Read conn.Write TCPConn.ReadFrom TCPConn.WriteTo UnixConn.ReadFrom UnixConn.ReadFromUnix
		UDPConn.ReadFrom UDPConn.ReadFromUDP UDPConn.ReadFromUDPAddrPort UDPConn.ReadMsgUDP
		UDPConn.ReadMsgUDPAddrPort IPConn.ReadFrom: ` + useConn,

	"net/http": `Get Head Post PostForm Client.Do Client.Get Client.Head Client.Post Client.PostForm: ` + useHTTP + `
		ListenAndServe ListenAndServeTLS Serve ServeTLS Server.ListenAndServe Server.ListenAndServeTLS
		Server.Serve Server.ServeTLS: ` + useServe + `
		Server.Shutdown: ` + inThread,

	"crypto/tls": `Dial DialWithDialer Dialer.Dial Dialer.DialContext: use asyncio.Dial and asyncio.TLSClient`,

	"os/exec": `Cmd.Run Cmd.Output Cmd.CombinedOutput Cmd.Wait: ` + useProcess,
	"os":      `Process.Wait: ` + inThread,

	"sync": `WaitGroup.Wait: ` + useGroup + `
		Cond.Wait: use asyncio.Condition`,

	"golang.org/x/sync/errgroup": `Group.Wait: ` + useGroup,

	"database/sql": `DB.Begin DB.BeginTx DB.Conn DB.Exec DB.ExecContext DB.Ping DB.PingContext DB.Prepare
		DB.PrepareContext DB.Query DB.QueryContext DB.QueryRow DB.QueryRowContext
		Conn.BeginTx Conn.ExecContext Conn.PingContext Conn.PrepareContext Conn.QueryContext
		Conn.QueryRowContext Conn.Raw Tx.Stmt Tx.StmtContext Tx.Commit Tx.Rollback Tx.Exec Tx.ExecContext Tx.Prepare
		Tx.PrepareContext Tx.Query Tx.QueryContext Tx.QueryRow Tx.QueryRowContext Stmt.Exec
		Stmt.ExecContext Stmt.Query Stmt.QueryContext Stmt.QueryRow Stmt.QueryRowContext
		Rows.Next Rows.NextResultSet: ` + useSQL,

	"google.golang.org/grpc": `Server.Serve: use asynciogrpc.Serve
		Server.GracefulStop: use asynciogrpc.GracefulStop
		ClientConn.WaitForStateChange: ` + inThread,

	"net/smtp": `Dial SendMail: ` + inThread,
	"net/rpc":  `Dial DialHTTP DialHTTPPath Client.Call: ` + inThread,
	"fmt":      `Scan Scanf Scanln: ` + inThread,
})

// table reads lists of names, each with a colon and a text behind it.
func table(packages map[string]string) map[string]string {
	all := make(map[string]string)
	for pkg, text := range packages {
		var names []string
		for line := range strings.Lines(text) {
			list, remedy, found := strings.Cut(line, ": ")
			names = append(names, strings.Fields(list)...)
			if found {
				for _, name := range names {
					all[pkg+"."+name] = strings.TrimSpace(remedy)
				}
				names = nil
			}
		}
		if names != nil {
			panic("a list of names without a text")
		}
	}
	return all
}

// takers has the functions of the standard library that run a function they are given, and where.
// The packages in callers call theirs before they return.
var takers = map[string]place{
	"time.AfterFunc":           onGoroutine,
	"context.AfterFunc":        onGoroutine,
	"sync.WaitGroup.Go":        onGoroutine,
	"runtime.AddCleanup":       onGoroutine,
	"runtime.SetFinalizer":     onGoroutine,
	"testing.B.RunParallel":    onGoroutine,
	"testing.T.Run":            onTest,
	"testing.B.Run":            onTest,
	"testing.F.Fuzz":           onTest,
	"testing.Benchmark":        onTest,
	"testing/synctest.Test":    onTest,
	"testing.AllocsPerRun":     inCaller,
	"testing/quick.Check":      inCaller,
	"sync.Once.Do":             inCaller,
	"sync.Map.Range":           inCaller,
	"path/filepath.Walk":       inCaller,
	"path/filepath.WalkDir":    inCaller,
	"io/fs.WalkDir":            inCaller,
	"runtime/pprof.Do":         inCaller,
	"runtime/trace.WithRegion": inCaller,
	"go/ast.Inspect":           inCaller,
}

var callers = map[string]bool{"bytes": true, "maps": true, "slices": true, "sort": true, "strings": true}

// taker says where a function runs that is given to fn, a function of the standard library.
func taker(fn *types.Func) place {
	if p, ok := takers[keyOf(fn)]; ok {
		return p
	}
	if callers[fn.Pkg().Path()] {
		return inCaller
	}
	return elsewhere
}

// isStandard reports whether p belongs to the standard library, as far as its path tells.
func isStandard(p *types.Package) bool {
	first, _, _ := strings.Cut(p.Path(), "/")
	return standardRoots[first]
}

var standardRoots = func() map[string]bool {
	all := make(map[string]bool)
	for _, name := range strings.Fields(`archive arena bufio builtin bytes cmp compress container context
		crypto database debug embed encoding errors expvar flag fmt go hash html image index internal io
		iter log maps math mime net os path plugin reflect regexp runtime slices sort strconv strings
		structs sync syscall testing text time unicode unique unsafe vendor weak`) {
		all[name] = true
	}
	return all
}()

// drawsRandom reports whether fn draws from the random numbers of package math/rand that the whole
// program has in common.
func drawsRandom(fn *types.Func) bool {
	switch fn.Pkg().Path() {
	case "math/rand", "math/rand/v2":
		return fn.Signature().Recv() == nil && !strings.HasPrefix(fn.Name(), "New")
	}
	return false
}

// isStdin reports whether e is os.Stdin.
func isStdin(info *types.Info, e ast.Expr) bool {
	sel, ok := ast.Unparen(e).(*ast.SelectorExpr)
	if !ok {
		return false
	}
	v, ok := info.Uses[sel.Sel].(*types.Var)
	return ok && v.Pkg() != nil && v.Pkg().Path() == "os" && v.Name() == "Stdin"
}
