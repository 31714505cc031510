// Asks the server what is on a picture: one question at a time, and of those that came meanwhile
// the newest.

export class Reader {
  #show;
  #wanted = null;
  #asking = false;
  #topic = 0;  // answers to questions of an older one are dropped

  // Called with an answer of the server and the question; or with {error}; or, while the server
  // does not answer, with {waiting}.
  constructor(show) { this.#show = show; }

  // `question`: {file(): Blob, query, since}
  ask(question) {
    this.#wanted = {...question, topic: this.#topic};
    if (!this.#asking) this.#work();
  }

  forget() {
    ++this.#topic;
    this.#wanted = null;
  }

  async #work() {
    this.#asking = true;
    while (this.#wanted) {
      const question = this.#wanted;
      this.#wanted = null;
      const answer = await this.#post(question);
      if (question.topic !== this.#topic) continue;
      this.#show(answer, question);
      if (!answer.waiting) continue;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      if (question.topic === this.#topic) this.#wanted ??= question;
    }
    this.#asking = false;
  }

  async #post({file, query}) {
    try {
      const body = file();
      const type = body.type.startsWith('image/') ? body.type : 'application/octet-stream';
      const response = await fetch(`/api/read?${new URLSearchParams(query)}`, {
        method: 'POST', body, headers: {'Content-Type': type},
        signal: AbortSignal.timeout(90_000)});
      const answer = await response.json();
      return response.status === 503 ? {waiting: answer.error} : answer;
    } catch {
      return {waiting: 'The server does not answer. Is cuda-mnist serve still running?'};
    }
  }
}
