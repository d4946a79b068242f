package gateway

import (
	"slices"
	"strings"

	"github.com/dfws/dfws/compat"
)

// topicRules turn the topics of a page into the groups of a window.
//
// df_websockets gives a window whatever its key was bound to, whoever is logged in by now: after a logout, or a login as somebody
// else, the window goes on hearing what was meant for the first user. Its cache says who that was, because each page of a user is bound
// to that user's own topic. Here what was bound for one person is for that person alone; others get the topics that everybody with
// the window key may have.
type topicRules struct {
	userModel string // AUTH_USER_MODEL
	prefix    string // in front of every topic; "" since df_websockets 1.0
	// ofOthers keeps df_websockets' way.
	ofOthers bool
}

// groups returns the group names for a window whose user has this primary key, "" for nobody.
func (r *topicRules) groups(topics []string, windowKey, userPK string) []string {
	if !r.ofOthers && r.foreign(topics, userPK) {
		topics = slices.DeleteFunc(slices.Clone(topics), func(topic string) bool {
			return topic != r.prefix+compat.BroadcastTopic && topic != r.prefix+compat.WindowTopic(windowKey)
		})
	}
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = compat.GroupName(topic)
	}
	return uniqueGroups(names)
}

// foreign says whether topics were bound for somebody else. A page of the user itself may be bound to other users, too.
func (r *topicRules) foreign(topics []string, userPK string) bool {
	if userPK != "" && slices.Contains(topics, r.prefix+compat.UserTopic(r.userModel, userPK)) {
		return false
	}
	prefix := r.prefix + compat.UserTopic(r.userModel, "")
	return slices.ContainsFunc(topics, func(topic string) bool {
		pk, ok := strings.CutPrefix(topic, prefix)
		return ok && pk != "None" && pk != "0" // USER of a visitor; an object without a primary key
	})
}
