package djangodb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

// connector runs statements on each new connection.
type connector struct {
	driver.Connector
	statements []string
}

// WithInit makes connections on which the statements of init_command, separated by semicolons, have been run.
func WithInit(c driver.Connector, commands string) driver.Connector {
	var statements []string
	for statement := range strings.SplitSeq(commands, ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	if len(statements) == 0 {
		return c
	}
	return &connector{c, statements}
}

var errNoExec = errors.New("the driver runs no statements at once")

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	for _, statement := range c.statements {
		execer, ok := conn.(driver.ExecerContext)
		if !ok {
			return nil, errors.Join(errNoExec, conn.Close())
		}
		if _, err := execer.ExecContext(ctx, statement, nil); err != nil {
			return nil, errors.Join(fmt.Errorf("init_command: %w", err), conn.Close())
		}
	}
	return conn, nil
}
