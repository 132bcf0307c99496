//go:build !go1.27

package asynciohttp

import "net/http"

// The field MaxHeaderValueCount of http.Server is new in Go 1.27.

func maxHeaderValueCount(*http.Server) int { return 0 }

func setMaxHeaderValueCount(*http.Server, int) {}
