package inspection

// Listen opens the socket and closes it again.
func Listen() error {
	l, err := listen()
	if err == nil {
		err = l.Close()
	}
	return err
}
