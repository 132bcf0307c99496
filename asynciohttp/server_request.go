package asynciohttp

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A badRequest is a request that is refused with a status. Which ones are, and with what, is what
// net/http does.
type badRequest struct {
	status int
	public string // added to the status line and the body
	body   string // replaces the body
}

func (e badRequest) Error() string {
	text := http.StatusText(e.status)
	if e.public != "" {
		text += ": " + e.public
	}
	return text
}

var (
	errMalformed       = badRequest{status: http.StatusBadRequest}
	errUnsupportedTE   = badRequest{status: http.StatusNotImplemented, body: "Unsupported transfer encoding"}
	errUnknownVersion  = badRequest{status: http.StatusHTTPVersionNotSupported, public: "unsupported protocol version"}
	errNoHost          = badRequest{status: http.StatusBadRequest, public: "missing required Host header"}
	errBadHost         = badRequest{status: http.StatusBadRequest, public: "malformed Host header"}
	errBadName         = badRequest{status: http.StatusBadRequest, public: "invalid header name"}
	errHeadTooLong     = errors.New("asynciohttp: the head of a request is too long")
	errLineTooLong     = errors.New("header line too long")
	errTrailerTooLong  = errors.New("http: suspiciously long trailer after chunked body")
	errChunkedLF       = errors.New("chunked line ends with bare LF")
	errChunkedCR       = errors.New("invalid CR in chunked line")
	errChunkLength     = errors.New("invalid chunk length")
	errChunkEnd        = errors.New("malformed chunked encoding")
	errChunkOverhead   = errors.New("chunked encoding contains too much non-data")
	errHTTPTrailerEOF  = errors.New("http: unexpected EOF reading trailer")
	errMalformedFields = errors.New("http: malformed trailer")
)

// An expectation is what the header Expect of a request says.
type expectation uint8

const (
	expectNothing expectation = iota
	expectContinue
	expectUnknown
)

// A request is a request with what the connection has to know of it. Handlers may change an
// http.Request, so this is looked at before they run.
type request struct {
	http.Request
	length    int64 // of the body, -1 if it is chunked
	expect    expectation
	keep10    bool // HTTP/1.0 with "Connection: keep-alive"
	close     bool // the connection is not to be used again
	isUpgrade bool // the beginning of HTTP/2 with prior knowledge
}

// readRequest reads the head of a request. If all of it has come it is parsed at once; otherwise a
// line that cannot be right is refused as soon as it has come, as by net/http.
func (c *serverConn) readRequest(r *request) error {
	wholeUntil := time.Time{}
	if d := c.s.ReadTimeout; d > 0 {
		wholeUntil = c.s.loop.Now().Add(d)
	}
	in := &c.in
	limit := c.s.headerLimit()
	if c.isPOST {
		// old clients send a line end behind the body of a POST
		for n := 0; n < 4 && in.r < in.w && (in.buf[in.r] == '\r' || in.buf[in.r] == '\n'); n++ {
			in.r++
		}
	}
	var scan headScan
	for !scan.next(in.unread()) {
		if err := scan.check(in.unread()); err != nil {
			return err
		}
		if in.w-in.r >= limit {
			return errHeadTooLong
		}
		in.grow()
		if err := in.fill(); err == io.EOF && in.r < in.w {
			return errMalformed
		} else if err != nil {
			return err
		}
	}
	if scan.end > limit {
		return errHeadTooLong
	}
	head := string(in.buf[in.r : in.r+scan.end])
	in.r += scan.end
	in.shrink()
	if err := r.parse(head, scan.lines, c.s.headerValueLimit()); err != nil {
		return err
	}
	c.isPOST = r.Method == http.MethodPost
	c.setReadDeadline(wholeUntil)
	if d := c.s.WriteTimeout; d > 0 {
		c.writeDeadline = true
		_ = c.rwc.SetWriteDeadline(c.s.loop.Now().Add(d))
	}
	return nil
}

// A headScan finds the end of a head: the first empty line.
type headScan struct {
	pos     int // the beginning of the first line that has not come in full
	checked int // the beginning of the first line that was not checked
	number  int // of that line
	lines   int // complete lines, without the empty one
	end     int // behind the empty line, if it was found
}

// next looks at the lines that have come since, and reports whether the head is complete. An empty
// first line is a line, which cannot be right.
func (s *headScan) next(p []byte) bool {
	for {
		i := bytes.IndexByte(p[s.pos:], '\n')
		if i < 0 {
			return false
		}
		empty := i == 0 || i == 1 && p[s.pos] == '\r'
		s.pos += i + 1
		if empty {
			s.end = s.pos
			return true
		}
		s.lines++
	}
}

// check refuses complete lines that cannot be right although more lines are to come.
func (s *headScan) check(p []byte) error {
	for s.checked < s.pos {
		i := bytes.IndexByte(p[s.checked:], '\n')
		line := trimCR(string(p[s.checked : s.checked+i]))
		switch {
		case s.number == 0:
			if err := new(request).parseLine(line); err != nil {
				return err
			}
		case s.number == 1 || !isOWS(line[0]):
			if _, _, ok := cutField(line); !ok || isOWS(line[0]) {
				return errMalformed
			}
		}
		s.checked += i + 1
		s.number++
	}
	return nil
}

func trimCR(line string) string {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		return line[:n-1]
	}
	return line
}

func isOWS(b byte) bool { return b == ' ' || b == '\t' }

// cutLine returns the first line of head, without its end, and the rest.
func cutLine(head string) (line, rest string) {
	line, rest, _ = strings.Cut(head, "\n")
	return trimCR(line), rest
}

// parse parses a complete head of so many lines, with up to limit values.
func (r *request) parse(head string, lines, limit int) error {
	line, rest := cutLine(head)
	if err := r.parseLine(line); err != nil {
		return err
	}
	badName, err := r.parseFields(rest, lines-1, limit)
	if err != nil {
		return err
	}
	hosts := r.Header["Host"]
	if len(hosts) > 1 {
		return errMalformed
	}
	if r.Host = r.URL.Host; r.Host == "" && len(hosts) == 1 {
		r.Host = hosts[0]
	}
	if v := r.Header["Pragma"]; len(v) > 0 && v[0] == "no-cache" && r.Header["Cache-Control"] == nil {
		r.Header["Cache-Control"] = []string{"no-cache"}
	}
	r.Close = r.wantsClose()
	if err := r.parseLength(); err != nil {
		return err
	}
	if err := r.verify(hosts, badName); err != nil {
		return err
	}
	delete(r.Header, "Host")
	r.note()
	return nil
}

// parseLine parses the first line of a head.
func (r *request) parseLine(line string) (err error) {
	method, rest, ok1 := strings.Cut(line, " ")
	target, proto, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || !httpguts.ValidHeaderFieldName(method) {
		return errMalformed
	}
	r.Method, r.RequestURI, r.Proto = method, target, proto
	if r.ProtoMajor, r.ProtoMinor, ok1 = http.ParseHTTPVersion(proto); !ok1 {
		return errMalformed
	}
	// The target of CONNECT is an authority, or a path as package net/rpc uses it.
	authority := method == http.MethodConnect && !strings.HasPrefix(target, "/")
	if authority {
		target = "http://" + target
	}
	if r.URL, err = url.ParseRequestURI(target); err != nil {
		return errMalformed
	}
	if authority {
		r.URL.Scheme = ""
	}
	return nil
}

// parseFields parses the lines behind the first, up to the empty one. badName says that there is a
// name with a space in it, which is refused later, with another text.
func (r *request) parseFields(lines string, n, limit int) (badName bool, err error) {
	h := make(http.Header, min(n, limit))
	values := make([]string, min(n, limit))
	if lines != "" && isOWS(lines[0]) {
		return false, errMalformed
	}
	for {
		var line string
		if line, lines = cutLine(lines); line == "" {
			break
		}
		if lines != "" && isOWS(lines[0]) {
			if strings.IndexByte(line, ':') < 0 {
				return false, errMalformed
			}
			line, lines = joinFolded(line, lines)
		}
		name, value, ok := cutField(line)
		if !ok {
			return false, errMalformed
		}
		if !isCanonical(name) {
			if strings.IndexByte(name, ' ') >= 0 {
				badName = true
			}
			name = textproto.CanonicalMIMEHeaderKey(name)
		}
		if limit--; limit < 0 {
			return false, errHeadTooLong
		}
		if vv := h[name]; vv != nil {
			h[name] = append(vv, value)
		} else {
			vv, values = values[:1:1], values[1:]
			vv[0] = value
			h[name] = vv
		}
	}
	r.Header = h
	return badName, nil
}

// joinFolded joins a line with the ones that continue it.
func joinFolded(line, lines string) (joined, rest string) {
	var b strings.Builder
	b.WriteString(strings.Trim(line, " \t"))
	for lines != "" && isOWS(lines[0]) {
		line, lines = cutLine(lines)
		b.WriteByte(' ')
		b.WriteString(strings.Trim(line, " \t"))
	}
	return b.String(), lines
}

// cutField splits a line into the name and the value of a field. A name may have spaces, and is
// refused later.
func cutField(line string) (name, value string, ok bool) {
	i := strings.IndexByte(line, ':')
	if i < 0 {
		return "", "", false
	}
	line = strings.Trim(line, " \t")
	if i = strings.IndexByte(line, ':'); i <= 0 {
		return "", "", false
	}
	name, value = line[:i], line[i+1:]
	for k := 0; k < len(name); k++ {
		if !isToken[name[k]] && name[k] != ' ' {
			return "", "", false
		}
	}
	for k := 0; k < len(value); k++ {
		if b := value[k]; b < ' ' && b != '\t' || b == 0x7f {
			return "", "", false
		}
	}
	return name, strings.TrimLeft(value, " \t"), true
}

// isToken says which bytes the names of fields consist of.
var isToken = func() (t [256]bool) {
	for b := range 128 {
		t[b] = httpguts.IsTokenRune(rune(b))
	}
	return t
}()

// isCanonical reports whether a name is spelled as net/http spells it, as most clients do.
func isCanonical(name string) bool {
	upper := true
	for i := 0; i < len(name); i++ {
		b := name[i]
		if upper && 'a' <= b && b <= 'z' || !upper && 'A' <= b && b <= 'Z' || b == ' ' {
			return false
		}
		upper = b == '-'
	}
	return true
}

// wantsClose reports whether the client will not use the connection again.
func (r *request) wantsClose() bool {
	if r.ProtoMajor < 1 {
		return true
	}
	v := r.Header["Connection"]
	if v == nil {
		return r.ProtoMajor == 1 && r.ProtoMinor == 0
	}
	if httpguts.HeaderValuesContainsToken(v, "close") {
		return true
	}
	return r.ProtoMajor == 1 && r.ProtoMinor == 0 && !httpguts.HeaderValuesContainsToken(v, "keep-alive")
}

// parseLength finds how long the body is. What contradicts itself is refused, because two parsers
// could take it for different requests.
func (r *request) parseLength() error {
	chunked := false
	if te, ok := r.Header["Transfer-Encoding"]; ok {
		delete(r.Header, "Transfer-Encoding")
		if r.ProtoAtLeast(1, 1) {
			if len(te) != 1 || !equalASCII(te[0], "chunked") {
				return errUnsupportedTE
			}
			chunked = true
		}
	}
	lengths := r.Header["Content-Length"]
	if len(lengths) > 1 {
		first := textproto.TrimString(lengths[0])
		for _, other := range lengths[1:] {
			if textproto.TrimString(other) != first {
				return errMalformed
			}
		}
		lengths = []string{first}
		r.Header["Content-Length"] = lengths
	}
	if len(lengths) == 1 {
		n, err := strconv.ParseUint(textproto.TrimString(lengths[0]), 10, 63)
		if err != nil {
			return errMalformed
		}
		r.length = int64(n)
	}
	if chunked {
		delete(r.Header, "Content-Length")
		r.length = -1
		r.TransferEncoding = []string{"chunked"}
	}
	r.ContentLength = r.length
	return r.parseTrailer(chunked)
}

// parseTrailer notes which trailers are announced.
func (r *request) parseTrailer(chunked bool) error {
	announced, ok := r.Header["Trailer"]
	if !ok || !chunked {
		return nil
	}
	delete(r.Header, "Trailer")
	trailer := make(http.Header)
	for _, v := range announced {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name == "" {
				continue
			}
			switch name = textproto.CanonicalMIMEHeaderKey(name); name {
			case "Transfer-Encoding", "Trailer", "Content-Length":
				return errMalformed
			}
			trailer[name] = nil
		}
	}
	if len(trailer) > 0 {
		r.Trailer = trailer
	}
	return nil
}

// verify is what net/http's server demands beyond what its parser does.
func (r *request) verify(hosts []string, badName bool) error {
	r.isUpgrade = r.Method == "PRI" && len(r.Header) == 0 && r.URL.Path == "*" && r.Proto == "HTTP/2.0"
	if r.ProtoMajor != 1 && !(r.ProtoMajor == 2 && r.ProtoMinor == 0 && r.Method == "PRI" && r.RequestURI == "*") {
		return errUnknownVersion
	}
	if r.ProtoAtLeast(1, 1) && len(hosts) == 0 && !r.isUpgrade && r.Method != http.MethodConnect {
		return errNoHost
	}
	if len(hosts) == 1 && !httpguts.ValidHostHeader(hosts[0]) {
		return errBadHost
	}
	if badName {
		return errBadName
	}
	return nil
}

// note notes what must not depend on what handlers do to the header.
func (r *request) note() {
	if v := r.Header["Expect"]; len(v) > 0 && v[0] != "" {
		if r.expect = expectUnknown; hasToken(v[0], "100-continue") {
			r.expect = expectContinue
		}
	}
	var connection string
	if v := r.Header["Connection"]; len(v) > 0 {
		connection = v[0]
	}
	r.keep10 = r.ProtoMajor == 1 && r.ProtoMinor == 0 && hasToken(connection, "keep-alive")
	r.close = r.Close || hasToken(connection, "close")
	if r.isUpgrade {
		r.close, r.Close, r.ContentLength = true, true, -1
	}
}

// hasToken reports whether one of the tokens in v, separated by commas or spaces, is token, which
// is in lower case.
func hasToken(v, token string) bool {
	if len(v) < len(token) {
		return false
	}
	for t := range strings.FieldsFuncSeq(v, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		if equalASCII(t, token) {
			return true
		}
	}
	return false
}

// equalASCII compares a with lower, which is in lower case, and knows no letters beyond ASCII.
func equalASCII(a, lower string) bool {
	if len(a) != len(lower) {
		return false
	}
	for i := 0; i < len(a); i++ {
		b := a[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != lower[i] {
			return false
		}
	}
	return true
}
