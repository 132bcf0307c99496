//go:build !linux && !darwin && !freebsd

package cli_test

func sickProgram() {}
