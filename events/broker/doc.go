// Package broker is everything of genfn that speaks NATS: the streams, the
// queue of requests, attempts and their fence, the one terminal event of each
// request, artefacts in the object store, dead letters, and the sweeper.
//
// A request's life: Queue.Next hands out a Job; Job.Open reads and checks it and
// answers what cannot run; Job.Begin appends the attempt record; Attempt.Publish
// emits live events and Attempt.PutObject stores results; Attempt.Finish writes
// the terminal event; Job.Done acknowledges. In this order a crash at any point
// loses nothing: objects without a terminal event are collected later, a
// terminal event without the acknowledgement makes the redelivered request be
// acknowledged only.
//
// These details have caused bugs:
//   - A negative acknowledgement counts against MaxDeliver, and a message that
//     used it up stays in the stream undelivered: MaxDeliver is off and attempts
//     are counted in records of our own.
//   - Acknowledgements of a lost delivery are accepted and an extension of a lost
//     lease reports nothing: only the attempt record tells who holds a request.
//   - A core subscription sees what a stream then refuses: what is heard under
//     TerminalSubject proves nothing. The stream says again under AnswerSubject
//     what it has stored.
//   - With AllowDirect a follower may answer a read with old data: everything
//     that decides something is read from the stream's leader.
//   - A refused publish is reported to nobody but the connection's error handler;
//     the publisher itself only times out.
//   - A pull that is cancelled may have been answered already: pulls are left to
//     expire, and what comes too late is handed back.
//   - A stream in memory is gone, configuration and all, when its server restarts:
//     Setup is repeated after each reconnection.
//   - A message TTL removes queued and running requests silently: none is set.
//   - A request is removed from the queue, cancelled or expired, only after its
//     terminal event is stored, and by its sequence: a purge by subject does not
//     reach the consumers whose filters overlap with that subject.
//   - A client chooses where its cancel is replied to, and an instance may publish
//     nearly everywhere: replies go to no subject of ours or the server's.
//   - Storing an object under an existing name replaces it: names carry the attempt.
//   - The window for duplicate message ids is shorter than a result's life: a
//     request is compared with the stored terminal events as well.
//   - Whoever answered a request may die before it is a dead letter: that is made
//     last, before the request leaves the queue, by whoever takes it out.
//   - Moved work must be published before it is acknowledged.
//   - Handed-back messages leave num_pending, which pulls with a limit look at:
//     see Job.HandBack.
package broker
