package asynciogrpc

import (
	"reflect"

	"google.golang.org/protobuf/proto"
)

// another makes a message for a goroutine to receive, in place of m, which stays the task's (grpc
// 5). It returns nil if m is no pointer. A message that is not protobuf's may say, to its codec,
// how it is to be filled; so the other one begins as a copy.
func another(m any) any {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil
	}
	if p, ok := m.(proto.Message); ok {
		return p.ProtoReflect().New().Interface()
	}
	other := reflect.New(v.Type().Elem())
	other.Elem().Set(v.Elem())
	return other.Interface()
}

// move moves the content of from, which must not be used any more, to m. It reports whether it
// fits.
func move(m, from any) bool {
	to, isProto := m.(proto.Message)
	other, areProto := from.(proto.Message)
	areProto = areProto && isProto
	if areProto && to.ProtoReflect().Descriptor() != other.ProtoReflect().Descriptor() {
		return false
	}
	switch {
	case reflect.TypeOf(m) == reflect.TypeOf(from):
		// Also for protobuf's: no part of a message points back to it, and from is not used again.
		reflect.ValueOf(m).Elem().Set(reflect.ValueOf(from).Elem())
	case areProto:
		proto.Reset(to)
		proto.Merge(to, other)
	default:
		return false
	}
	return true
}
