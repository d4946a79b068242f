// Package gateway is the websocket edge of a site that uses df_websockets.
package gateway
