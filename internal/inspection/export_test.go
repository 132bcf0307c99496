package inspection

// Listen opens the socket and closes it again.
func Listen() error {
	closes, err := OpenSocket()
	if err == nil {
		closes()
	}
	return err
}

// OpenSocket opens the socket, for nobody.
func OpenSocket() (closes func(), err error) {
	l, err := listen()
	return func() { closeSocket(l) }, err
}
