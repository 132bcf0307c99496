package asynciohttp

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// The head of a response: what net/http decides from the header, the status and the request, and in
// the same order of fields.

// bodyAllowed reports whether a response with this status may have a body.
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// takeFields copies the handler's header, in the order of the names (response 2).
func (w *serverResponse) takeFields() {
	c := w.c
	c.fields, c.values = c.fields[:0], c.values[:0]
	for name, values := range w.header {
		c.fields = append(c.fields, headerField{name: name, values: values})
	}
	slices.SortFunc(c.fields, func(a, b headerField) int { return strings.Compare(a.name, b.name) })
	for i := range c.fields {
		f := &c.fields[i]
		n := len(c.values)
		c.values = append(c.values, f.values...)
		f.values = c.values[n:len(c.values):len(c.values)]
	}
}

// field returns the field with this name that is to be sent, nil if there is none.
func (w *serverResponse) field(name string) *headerField {
	for i := range w.c.fields {
		if f := &w.c.fields[i]; f.name == name && !f.omit {
			return f
		}
	}
	return nil
}

// get returns the first value of a field, or "".
func (w *serverResponse) get(name string) string {
	if f := w.field(name); f != nil && len(f.values) > 0 {
		return f.values[0]
	}
	return ""
}

func (w *serverResponse) omit(name string) {
	if f := w.field(name); f != nil {
		f.omit = true
	}
}

// added are the fields that the server adds to the handler's.
type added struct{ contentType, connection, transferEncoding string }

// makeHead makes the head and puts it into the connection's buffer. p are the first bytes of the
// body. It suspends the task if a rest of the request's body has to be read first.
func (w *serverResponse) makeHead(p []byte) error {
	w.headMade = true
	var add added
	announced := w.announceTrailers()
	te := w.get("Transfer-Encoding")
	hasBody := bodyAllowed(w.status)
	lengthAdded := false
	if w.handlerDone && !announced && te == "" && hasBody && w.field("Content-Length") == nil && (!w.isHEAD || len(p) > 0) {
		w.length, lengthAdded = int64(len(p)), true
	}
	w.decideReuse(&add)
	if err := w.readRest(&add); err != nil {
		return err
	}
	if !hasBody {
		if w.status == http.StatusNotModified {
			w.omit("Content-Type")
		}
		w.omit("Content-Length")
		w.omit("Transfer-Encoding")
	} else if len(p) > 0 && te == "" && w.field("Content-Type") == nil && w.get("Content-Encoding") == "" {
		add.contentType = http.DetectContentType(p)
	}
	if w.length != -1 && te != "" && te != "identity" {
		w.c.s.logf("http: WriteHeader called with both Transfer-Encoding of %q and a Content-Length of %d", te, w.length)
		w.omit("Content-Length")
		lengthAdded = false
		w.frame(&add, te, false)
	} else {
		w.frame(&add, te, w.length != -1)
	}
	tunnel := w.isTunnel()
	if tunnel {
		lengthAdded = false
	}
	if w.closeAfter && (!w.c.s.keepsAlive() || !hasToken(w.get("Connection"), "close")) && !w.switchesProtocol() {
		w.omit("Connection")
		add.connection = ""
		if w.minor == 1 && !tunnel {
			add.connection = "close"
		}
	}
	w.statusLine(w.status)
	hasDate := w.field("Date") != nil
	w.fieldLines()
	w.addedLines(&add, !hasDate, lengthAdded)
	return nil
}

// isTunnel reports whether the response accepts a CONNECT.
func (w *serverResponse) isTunnel() bool {
	return w.isCONNECT && w.status >= 200 && w.status < 300
}

// decideReuse finds out whether the connection can be used again (serve 3).
func (w *serverResponse) decideReuse(add *added) {
	keepsAlive := w.c.s.keepsAlive()
	if w.keep10 && keepsAlive && w.get("Content-Length") != "" && w.get("Connection") == "keep-alive" {
		w.closeAfter = false
	}
	if w.keep10 && (w.isHEAD || w.length != -1 || !bodyAllowed(w.status)) {
		if w.field("Connection") == nil {
			add.connection = "keep-alive"
		}
	} else if w.minor == 0 || w.clientCloses {
		w.closeAfter = true
	}
	if w.get("Connection") == "close" || !keepsAlive || w.isCONNECT {
		w.closeAfter = true
	}
	if w.body.expected && !w.body.sawEOF {
		w.closeAfter = true // the client may send the body or not
	}
}

// readRest reads what is left of the request's body, because some clients send all of it before
// they read.
func (w *serverResponse) readRest(add *added) error {
	b := &w.body
	if b.sawEOF || w.closeAfter || w.fullDuplex {
		return nil
	}
	tooBig := false
	switch {
	case b.closed, b.busy:
		w.closeAfter = true
	case b.chunks == notChunked && b.remain >= maxUnreadBody:
		tooBig = true
	case b.cut:
	default:
		b.busy = true
		n, err := b.discard(maxUnreadBody + 1)
		b.busy = false
		if n > maxUnreadBody {
			tooBig = true
		} else if !b.complete() {
			w.closeAfter = true
			if err := onlyCancel(err); err != nil {
				return err
			}
		}
		b.closed = true
	}
	if tooBig {
		w.closeAfter = true
		w.omit("Connection")
		add.connection = "close"
	}
	return nil
}

// frame decides how the end of the body is told.
func (w *serverResponse) frame(add *added, te string, hasLength bool) {
	switch {
	case w.isTunnel():
		w.omit("Transfer-Encoding")
		w.omit("Content-Length")
	case w.isHEAD || !bodyAllowed(w.status), hasLength:
		w.omit("Transfer-Encoding")
	case w.minor == 0:
		w.closeAfter = true
		w.omit("Transfer-Encoding")
	case te == "identity":
		w.closeAfter = true
		w.omit("Transfer-Encoding")
	default:
		w.chunking = true
		add.transferEncoding = "chunked"
		if te == "chunked" {
			w.omit("Transfer-Encoding")
		}
		w.omit("Content-Length")
	}
}

// switchesProtocol reports whether the connection is no longer HTTP after the response.
func (w *serverResponse) switchesProtocol() bool {
	return w.status == http.StatusSwitchingProtocols && w.get("Upgrade") != "" && hasTokenIn(w.field("Connection"), "upgrade")
}

func hasTokenIn(f *headerField, token string) bool {
	return f != nil && httpguts.HeaderValuesContainsToken(f.values, token)
}

func (w *serverResponse) statusLine(status int) {
	c := w.c
	c.out = append(c.out, "HTTP/1."...)
	c.out = append(c.out, byte('0'+w.minor), ' ')
	c.out = strconv.AppendInt(c.out, int64(status), 10)
	c.out = append(c.out, ' ')
	if text := http.StatusText(status); text != "" {
		c.out = append(c.out, text...)
	} else {
		c.out = append(c.out, "status code "...)
		c.out = strconv.AppendInt(c.out, int64(status), 10)
	}
	c.out = append(c.out, crlf...)
}

// fieldLines writes the handler's fields. Names that are none are left out.
func (w *serverResponse) fieldLines() {
	for i := range w.c.fields {
		if f := &w.c.fields[i]; !f.omit && httpguts.ValidHeaderFieldName(f.name) {
			for _, v := range f.values {
				w.line(f.name, v)
			}
		}
	}
}

// line writes a field. A value has no line ends.
func (w *serverResponse) line(name, value string) {
	c := w.c
	c.out = append(c.out, name...)
	c.out = append(c.out, ": "...)
	if strings.ContainsAny(value, "\r\n") {
		value = lineEnds.Replace(value)
	}
	c.out = append(c.out, textproto.TrimString(value)...)
	c.out = append(c.out, crlf...)
}

var lineEnds = strings.NewReplacer("\n", " ", "\r", " ")

// addedLines writes the server's fields and the end of the head.
func (w *serverResponse) addedLines(add *added, date, length bool) {
	c := w.c
	if date {
		c.out = append(c.out, "Date: "...)
		c.out = c.s.date.append(c.out, c.s.loop)
		c.out = append(c.out, crlf...)
	}
	if length {
		c.out = append(c.out, "Content-Length: "...)
		c.out = strconv.AppendInt(c.out, w.length, 10)
		c.out = append(c.out, crlf...)
	}
	if add.contentType != "" {
		w.line("Content-Type", add.contentType)
	}
	if add.connection != "" {
		w.line("Connection", add.connection)
	}
	if add.transferEncoding != "" {
		w.line("Transfer-Encoding", add.transferEncoding)
	}
	c.out = append(c.out, crlf...)
}

// announceTrailers notes the trailers that the header announces, and omits the fields that are
// trailers by their names. It reports whether there are any of either.
func (w *serverResponse) announceTrailers() (any bool) {
	for i := range w.c.fields {
		f := &w.c.fields[i]
		if strings.HasPrefix(f.name, http.TrailerPrefix) {
			f.omit, any = true, true
		}
		if f.name != "Trailer" {
			continue
		}
		any = true
		for _, v := range f.values {
			for name := range strings.SplitSeq(v, ",") {
				name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
				if name != "" && httpguts.ValidTrailerHeader(name) {
					w.trailers = append(w.trailers, name)
				}
			}
		}
	}
	return any
}

// trailerLines writes the trailers, in the order of their names.
func (w *serverResponse) trailerLines() {
	var trailer http.Header
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			if trailer == nil {
				trailer = make(http.Header)
			}
			trailer[name] = values
		}
	}
	for _, name := range w.trailers {
		if trailer == nil {
			trailer = make(http.Header)
		}
		for _, v := range w.header[name] {
			trailer.Add(name, v)
		}
	}
	if trailer == nil {
		return
	}
	w.header = trailer
	w.takeFields()
	w.fieldLines()
}
