package asyncio

import (
	"fmt"
	"strings"
)

// reprMax is the most that a repr shows of a string or other value, as in Python's reprlib.
const reprMax = 30

// reprError returns text like Python's ValueError('text').
func reprError(err error) string {
	if p, ok := err.(*PanicError); ok {
		return fmt.Sprintf("PanicError(%s)", reprString(fmt.Sprint(p.Value)))
	}
	name := strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
	// Sprint survives an Error that panics
	return fmt.Sprintf("%s(%s)", name, reprString(fmt.Sprint(err)))
}

// reprString quotes as Python does: with single quotes unless that needs escapes.
func reprString(s string) string {
	if isPlain(s) {
		return "'" + s + "'"
	}
	q := fmt.Sprintf("%q", s)
	body := strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
	if !strings.Contains(body, "'") {
		return "'" + body + "'"
	}
	if !strings.Contains(body, `"`) {
		return `"` + body + `"`
	}
	return "'" + strings.ReplaceAll(body, "'", `\'`) + "'"
}

// isPlain reports whether s needs no escapes in either kind of quotes.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\'' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// shorten cuts the middle out of a long text.
func shorten(s string) string {
	r := []rune(s)
	if len(r) <= reprMax {
		return s
	}
	return string(r[:13]) + "..." + string(r[len(r)-14:])
}
