package worker

import (
	"errors"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

func mustWindow(t testing.TB, text string) *compat.WindowInfo {
	t.Helper()
	w, err := compat.DecodeWindowInfo(celeryproto.Raw(text))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// The windows of df-websockets' truth table, measured on df_websockets 1.2.6.
var windows = []struct{ name, json string }{
	{"anonymous", `{"window_key": "k", "user_pk": null, "user_set": false, "perms": null}`},
	{"user", `{"user_pk": 1, "username": "u", "is_active": true, "user_set": true, "perms": []}`},
	{"inactive", `{"user_pk": 2, "is_active": false, "user_set": true, "perms": []}`},
	{"granted", `{"user_pk": 3, "is_active": true, "user_set": true, "perms": ["auth.add_user"]}`},
	{"staff", `{"user_pk": 4, "is_staff": true, "is_active": true, "user_set": true, "perms": []}`},
	{"superuser", `{"user_pk": 5, "is_superuser": true, "is_active": true, "user_set": true, "perms": null}`},
	{"both", `{"user_pk": 6, "is_superuser": true, "is_staff": true, "is_active": true, "user_set": true, "perms": null}`},
}

func TestRules(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rule Rule
		name string
		want [7]bool // as windows
	}{
		{Everyone, "everyone", [7]bool{true, true, true, true, true, true, true}},
		{Authenticated, "is_authenticated", [7]bool{false, true, true, true, true, true, true}},
		{Anonymous, "is_anonymous", [7]bool{true, false, false, false, false, false, false}},
		{Staff, "is_staff", [7]bool{false, false, false, false, true, false, true}},
		{Superuser, "is_superuser", [7]bool{false, false, false, false, false, true, true}},
		{HasPerm("auth.add_user"), "has_perm:auth.add_user", [7]bool{false, false, false, true, false, true, true}},
		{ServerSide, "server_side", [7]bool{}},
		{Rule{}, "server_side", [7]bool{}},
		{RuleFunc(nil), "server_side", [7]bool{}},
		{RuleFunc(func(c *Call) bool { return c.Window.IsActive() }), "custom", [7]bool{false, true, false, true, true, true, true}},
	} {
		if got := tc.rule.String(); got != tc.name {
			t.Errorf("rule %q, want %q", got, tc.name)
		}
		for i, window := range windows {
			call := &Call{Window: mustWindow(t, window.json), FromClient: true}
			if ok, err := tc.rule.check(call); ok != tc.want[i] || err != nil {
				t.Errorf("%s for %s: %v, %v; want %v", tc.name, window.name, ok, err, tc.want[i])
			}
			call.FromClient = false
			if ok, err := tc.rule.check(call); !ok || err != nil {
				t.Errorf("%s for a call from a server with %s: %v, %v", tc.name, window.name, ok, err)
			}
		}
	}
}

func TestHasPermUnknown(t *testing.T) {
	t.Parallel()
	call := &Call{Window: mustWindow(t, `{"user_pk": 1, "user_set": true, "perms": null}`), FromClient: true}
	if ok, err := HasPerm("a.b").check(call); ok || !errors.Is(err, errNoPermissions) {
		t.Errorf("%v, %v; want a refusal that names the setting", ok, err)
	}
}
