// Command asyncio teaches asyncio, runs Python programs on the library's loop, and looks at
// processes that use the library:
//
//	asyncio lesson                          the lessons, in English and in Chinese
//	asyncio lesson 5 --steps                one of them, with each step of the loop
//	asyncio tutorial                        the programs of the tutorial, in real time
//	asyncio tutorial --virtual 2.4-task_1   one of them, on a virtual clock
//	asyncio lab [--virtual] [--steps] FILE.py a Python program
//	asyncio lab                             a prompt with await at the top
//	asyncio stacks PID                      tasks in groups; also ps, pstree and top
//	asyncio record PID                      what has happened lately, as a page
//
// The exit status is 0 if all went well, 1 if a lesson failed, 2 if the command was called
// in a way it does not understand, 130 after Ctrl-C and 143 after SIGTERM. lab has more; see
// asyncio lab --help.
package main

import (
	"os"

	"github.com/goasyncio/asyncio/cmd/internal/cli"
	"github.com/goasyncio/asyncio/examples/tutorial"
)

func main() {
	os.Exit(cli.Run(os.Args[1:], tutorial.Lessons(), os.Stdout, os.Stderr))
}
