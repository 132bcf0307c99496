//go:build !linux

package main

const loadExists = false

func mostFiles() int { return 0 }
