package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Heartbeat is the frame that df_websockets' script sends every minute and the server sends back.
const Heartbeat = "--heartbeat--"

// Frame is one text frame from the server.
type Frame struct {
	// Text is the frame as it came.
	Text     string
	Signal   string
	Opts     json.RawMessage
	SignalID string
	// At is when it was read.
	At time.Time
}

// Window is one open websocket. Frames are kept in the order of their arrival.
type Window struct {
	conn *websocket.Conn
	wg   sync.WaitGroup

	mu       sync.Mutex
	frames   []Frame
	taken    int // how many Next has given away
	readErr  error
	arrivedC chan struct{} // closed and replaced by the reader when a frame arrived or the connection ended

	writeMu sync.Mutex
}

func newWindow(conn *websocket.Conn) *Window {
	w := &Window{conn: conn, arrivedC: make(chan struct{})}
	w.wg.Go(w.read)
	return w
}

func (w *Window) read() {
	for {
		_, text, err := w.conn.ReadMessage()
		w.mu.Lock()
		if err != nil {
			w.readErr = err
		} else {
			w.frames = append(w.frames, parseFrame(text))
		}
		close(w.arrivedC)
		w.arrivedC = make(chan struct{})
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func parseFrame(text []byte) Frame {
	frame := Frame{Text: string(text), At: time.Now()}
	var parts struct {
		Signal   string          `json:"signal"`
		Opts     json.RawMessage `json:"opts"`
		SignalID string          `json:"signal_id"`
	}
	if json.Unmarshal(text, &parts) == nil {
		frame.Signal, frame.Opts, frame.SignalID = parts.Signal, parts.Opts, parts.SignalID
	}
	return frame
}

// Send sends a text frame.
func (w *Window) Send(text string) error { return w.write(websocket.TextMessage, []byte(text)) }

// SendBinary sends a binary frame.
func (w *Window) SendBinary(data []byte) error { return w.write(websocket.BinaryMessage, data) }

// Call sends what DFSignals.call sends.
func (w *Window) Call(signal string, opts any) error {
	text, err := json.Marshal(map[string]any{"signal": signal, "opts": opts})
	if err != nil {
		return fmt.Errorf("harness: %w", err)
	}
	return w.Send(string(text))
}

func (w *Window) write(kind int, data []byte) error {
	w.writeMu.Lock()
	defer w.writeMu.Unlock()
	if err := w.conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	return w.conn.WriteMessage(kind, data)
}

// Frames returns all frames so far.
func (w *Window) Frames() []Frame {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.frames)
}

// Next waits for the next frame that Next has not returned yet.
func (w *Window) Next(ctx context.Context) (Frame, error) {
	for {
		w.mu.Lock()
		if w.taken < len(w.frames) {
			frame := w.frames[w.taken]
			w.taken++
			w.mu.Unlock()
			return frame, nil
		}
		arrivedC, err := w.arrivedC, w.readErr
		w.mu.Unlock()
		if err != nil {
			return Frame{}, fmt.Errorf("%w: %w", ErrClosed, err)
		}
		select {
		case <-arrivedC:
		case <-ctx.Done():
			return Frame{}, fmt.Errorf("harness: next frame: %w", context.Cause(ctx))
		}
	}
}

// Until returns the frames that Next has not returned yet, up to and with the first that fits.
func (w *Window) Until(ctx context.Context, fits func(Frame) bool) ([]Frame, error) {
	var frames []Frame
	for {
		frame, err := w.Next(ctx)
		if err != nil {
			return frames, err
		}
		frames = append(frames, frame)
		if fits(frame) {
			return frames, nil
		}
	}
}

// CloseCode waits until the server has closed the connection: the code of its close frame, 1006 without one.
func (w *Window) CloseCode(ctx context.Context) (code int, reason string, err error) {
	for {
		w.mu.Lock()
		arrivedC, readErr := w.arrivedC, w.readErr
		w.mu.Unlock()
		if closed := (*websocket.CloseError)(nil); errors.As(readErr, &closed) {
			return closed.Code, closed.Text, nil
		}
		if readErr != nil {
			return websocket.CloseAbnormalClosure, readErr.Error(), nil
		}
		select {
		case <-arrivedC:
		case <-ctx.Done():
			return 0, "", fmt.Errorf("harness: close of the websocket: %w", context.Cause(ctx))
		}
	}
}

// IsOpen says whether the connection has not ended.
func (w *Window) IsOpen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.readErr == nil
}

// Close closes the connection as a closed browser tab does and waits for the reader.
func (w *Window) Close() error {
	w.writeMu.Lock()
	message := websocket.FormatCloseMessage(websocket.CloseGoingAway, "")
	_ = w.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second)) // it may be closed already
	w.writeMu.Unlock()
	err := w.conn.Close()
	w.wg.Wait()
	return err
}
