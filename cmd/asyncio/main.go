// Command asyncio runs and shows the lessons of package examples/tutorial, and runs Python programs
// on the library's loop, as far as module lab knows the language:
//
//	asyncio tutorial                        all lessons, in real time
//	asyncio tutorial --virtual 2.4-task_1   one lesson, on a virtual clock
//	asyncio tutorial --source 2.4-task_1    its Go source
//	asyncio lab [--virtual] [--steps] FILE.py a Python program
//	asyncio lab                             a prompt with await at the top
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
