package compat

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// BroadcastTopic is the topic of every window (df_websockets.tasks.BROADCAST).
const BroadcastTopic = "-broadcast"

// pythonNone is how Python's "%s" writes a missing window key or user.
const pythonNone = "None"

// GroupName returns the channel layer's group of a topic (df_websockets.utils.valid_topic_name): 64 characters of hex.
func GroupName(topic string) string {
	sum := sha256.Sum256([]byte(topic))
	return hex.EncodeToString(sum[:])
}

// WindowTopic returns the topic of one window. For a window info without a key, see [WindowInfo.WindowTopic].
func WindowTopic(windowKey string) string { return "-window." + windowKey }

// StringTopic returns the topic of a Python str.
func StringTopic(s string) string {
	sum := sha256.Sum224([]byte(s))
	return "-str." + hex.EncodeToString(sum[:])
}

// UserTopic returns the topic of a user. authUserModel is AUTH_USER_MODEL ("auth.User" and "auth.user" are the same);
// pk is the primary key as Python prints it.
func UserTopic(authUserModel, pk string) string {
	return "-" + modelLabel(authUserModel) + "." + pk
}

// ModelTopic returns the topic of a model instance: label is "app_label.ModelName" in any case, pk its primary key (an integer, a
// text, or a type that prints itself like uuid.UUID). A primary key that is unset, empty or zero is 0, as in Python.
func ModelTopic(label string, pk any) string {
	text := "0"
	if pk != nil {
		if s := fmt.Sprint(pk); s != "" {
			text = s
		}
	}
	return "-" + modelLabel(label) + "." + text
}

// SessionTopic returns the topic of df_websockets.window_info.Session(key).
func SessionTopic(key string) string { return "-session." + key }

// ClassTopic returns the topic of a Python class, by its bare name.
func ClassTopic(name string) string { return "-<" + name + ">" }

// IntTopic returns the topic of a Python int.
func IntTopic(n int64) string { return "-int." + strconv.FormatInt(pythonIntHash(n), 10) }

// BoolTopic returns the topic of a Python bool.
func BoolTopic(b bool) string {
	if b {
		return "-bool.1"
	}
	return "-bool.0"
}

// pythonIntHash is CPython's hash of an int (Objects/longobject.c, long_hash): the value modulo 2^61-1 with its sign; -1 marks an error
// in C and becomes -2.
func pythonIntHash(n int64) int64 {
	const modulus = 1<<61 - 1
	h := n % modulus
	if h == -1 {
		return -2
	}
	return h
}

// modelLabel lower-cases the model's name and keeps the app label as it is (Options.app_label and Options.model_name in Django).
func modelLabel(label string) string {
	app, model, found := strings.Cut(label, ".")
	if !found {
		return label
	}
	return app + "." + strings.ToLower(model)
}
