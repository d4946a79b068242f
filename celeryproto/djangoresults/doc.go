// Package djangoresults is the database backend of django-celery-results 2.6: Python and Go workers and clients of a site share
// its three tables. It knows SQLite, PostgreSQL, MySQL and MariaDB through database/sql and imports no driver.
//
//	django_celery_results_taskresult    one row per task: what AsyncResult and the admin read
//	django_celery_results_groupresult   one row per saved group: GroupResult.restore
//	django_celery_results_chordcounter  one row per chord whose header is not done: its results and how many have yet to return
//
// Rows are those that Python writes (backends/database.py, managers.py, models.py), oddities included:
//
//   - As there, the last result written counts, also over a SUCCESS; only Celery's key-value backends keep a SUCCESS.
//   - Without result_extended a row has neither the task's name and arguments nor the traceback.
//   - "date_started" is the database's time in the database's own zone, the other times are the program's.
//   - Results live until celery.backend_cleanup of Python, or Cleanup here, deletes them.
//
// # Chords
//
// A chord's row is locked (SELECT … FOR UPDATE; SQLite: BEGIN IMMEDIATE) while a part of the header is counted, as in Python.
// What differs protects against what loses chords there:
//
//   - The counter of a chord that Go starts is the number of tasks whose results make up the header. Python counts the members, so
//     that a group within a header completes it too early and the body is never sent.
//   - Where few parts are left, and always before a chord is complete, the counter is compared with the results that are there. A part
//     that was counted twice, because its task was run twice, does not complete the chord early.
//   - The row is deleted once the body was sent. In between it is claimed: after the list of results, in the column sub_tasks, there is
//     white space (tabs and blanks) that names the claim and its end; Python's JSON reader passes over it. When the process dies, the
//     task that completed the chord is run again and takes the chord up: by Go when the claim has ended, by Python at once.
//
// A task that stores no result never completes its chord, as in Python.
//
// # Goroutines
//
//	runPoll  one while Wait is called, and one that ends its statement by Close; they end with the last call, or by Close
package djangoresults
