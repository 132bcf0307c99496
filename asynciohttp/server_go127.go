//go:build go1.27

package asynciohttp

import "net/http"

func maxHeaderValueCount(config *http.Server) int { return config.MaxHeaderValueCount }

func setMaxHeaderValueCount(config *http.Server, n int) { config.MaxHeaderValueCount = n }
