// Package browser tests what the library shows with the programs that show it: its pages in a
// browser (Debian's chromium), and the files that it writes for other viewers with a reader that
// others have written. It is a module of its own, so that users of the library do not inherit the
// dependencies. It has tests only.
package browser
