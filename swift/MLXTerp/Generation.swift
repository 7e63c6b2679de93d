import CMLXTerp
import Dispatch
import Foundation

/// A token that a row drew.
public struct GeneratedToken: Sendable, Equatable {
    /// Why a row ended.
    public enum Finish: String, Sendable, Codable {
        /// It drew a token that ends a text.
        case eos
        /// A stop string came up.
        case stop
        /// It has as many tokens as were asked for.
        case length
    }

    /// The row of the prompts.
    public let row: Int
    /// The step in which it was drawn.
    public let step: Int
    /// Its id.
    public let id: Int
    /// Text that is complete with it; often empty, never part of a character.
    public let text: String
    /// Why the row ended with it, if it did.
    public let finish: Finish?
}

/// A row as far as it has come.
public struct Completion: Sendable, Equatable, Decodable {
    /// The prompt's tokens, and those drawn.
    public let prompt, tokens: [Int]
    /// The text drawn, up to the stop string.
    public let text: String
    /// Why it ended; `nil` while it goes on.
    public let finish: GeneratedToken.Finish?
    /// The stop string that ended it.
    public let stop: String?
}

/// One step of a generation. Its trace can be read and written until the tokens are drawn.
public struct GenerationStep: Sendable {
    /// 0 over the prompts, then one for each token.
    public let number: Int
    /// The run over the step's tokens. Rows that ended earlier have length 0 in it.
    public let trace: Trace
    let generation: Generation

    /// What each row drew, drawn now unless it was drawn already; rows that had ended before are left out. It can be asked
    /// for until the next step begins.
    public func draw() throws -> [GeneratedToken] { try generation.drawn(in: self) }
}

/// A generation under way: a sequence of the tokens drawn, row after row within each step.
///
///     for try await token in model.generate("The capital of France is", steering: [.add(vector, at: .layers(5...7))]) {
///         print(token.text, terminator: "")
///     }
///
/// The work is done away from the caller's thread; cancelling the task ends it between two steps.
public final class Generation: AsyncSequence, @unchecked Sendable {
    /// A token that a row drew.
    public typealias Element = GeneratedToken

    private let model: InterpretableModel
    private let start: Result<OpaquePointer, any Error>
    private let onStep: (@Sendable (GenerationStep) throws -> Void)?
    private let queue = DispatchQueue(label: "mlxterp.generation")
    private let lock = NSRecursiveLock()
    private var steps = 0
    private var waiting: [GeneratedToken] = []
    private var failed = false

    init(
        _ model: InterpretableModel, _ onStep: (@Sendable (GenerationStep) throws -> Void)?,
        _ start: () throws -> OpaquePointer
    ) {
        self.model = model
        self.onStep = onStep
        self.start = Result { try start() }
    }

    deinit {
        if case .success(let raw) = start { mlxterp_generation_free(raw) }
    }

    /// The next step; `nil` when every row has ended. Draws the tokens of the step before, if nobody has.
    public func nextStep() throws -> GenerationStep? {
        try lock.withLock {
            let raw = try start.get()
            if failed { return nil }
            var out: OpaquePointer?
            try check(mlxterp_generation_next(raw, &out))
            guard let out else { return nil }
            let batch: Batch
            do {
                batch = Batch(try made { mlxterp_trace_batch(out, $0) })
            } catch {
                mlxterp_trace_free(out)
                throw error
            }
            let step = GenerationStep(number: steps, trace: Trace(out, model, batch), generation: self)
            steps += 1
            do {
                try onStep?(step)
                // What an assignment in the closure could not throw.
                try step.trace.throwKept()
            } catch {
                failed = true
                throw error
            }
            return step
        }
    }

    func drawn(in step: GenerationStep) throws -> [GeneratedToken] {
        struct Drawn: Decodable {
            let token: Int
            let text: String
            let finish: GeneratedToken.Finish?
        }
        return try lock.withLock {
            let raw = try start.get()
            if step.number != steps - 1 {
                throw MLXTerpError(.invalidArgument, "step \(step.number) is over: ask for its tokens before the next")
            }
            let json = try text { mlxterp_generation_drawn_json(raw, $0) }
            let rows = try JSONDecoder().decode([Drawn?].self, from: Data(json.utf8))
            return rows.enumerated().compactMap { row, drawn in
                drawn.map {
                    GeneratedToken(row: row, step: step.number, id: $0.token, text: $0.text, finish: $0.finish)
                }
            }
        }
    }

    /// Runs to the end: every row, in the order of the prompts.
    public func run() throws -> [Completion] {
        while try nextStep() != nil {}
        return try rows()
    }

    /// Every row as far as it has come.
    public func rows() throws -> [Completion] {
        let raw = try start.get()
        let json = try text { mlxterp_generation_rows_json(raw, $0) }
        return try JSONDecoder().decode([Completion].self, from: Data(json.utf8))
    }

    /// What the model remembers of the prompts and the tokens that were run so far.
    public func cache() throws -> Cache {
        let raw = try start.get()
        return Cache(try made { mlxterp_generation_cache(raw, $0) })
    }

    private func nextToken() throws -> GeneratedToken? {
        try lock.withLock {
            while waiting.isEmpty {
                guard let step = try nextStep() else { return nil }
                waiting = try step.draw()
            }
            return waiting.removeFirst()
        }
    }

    /// Goes on where the generation stands.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(generation: self) }

    /// The tokens still to come.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let generation: Generation

        /// The next token; `nil` when every row has ended. Cancelling the task ends it between two steps.
        public mutating func next() async throws -> GeneratedToken? {
            try Task.checkCancellation()
            let generation = generation
            return try await withCheckedThrowingContinuation { continuation in
                // Not on Swift's own threads, which should not wait for a model.
                generation.queue.async { continuation.resume(with: Result { try generation.nextToken() }) }
            }
        }
    }
}

extension InterpretableModel {
    /// Starts a generation: a sequence of tokens, or step by step, each a trace. Nothing is computed yet; what is wrong with
    /// the arguments is thrown by the first step.
    ///
    /// - Parameters:
    ///   - prompts: a text, token ids, a list of either, or a ``Batch``.
    ///   - options: how tokens are drawn, and when to stop.
    ///   - steering: changes, applied in this order in every step they are meant for.
    ///   - onStep: called with every step before its tokens are drawn. What it throws ends the generation and is thrown there.
    public func generate(
        _ prompts: some Prompts, options: GenerationOptions = GenerationOptions(), steering: [Steer] = [],
        onStep: (@Sendable (GenerationStep) throws -> Void)? = nil
    ) -> Generation {
        Generation(self, onStep) { try options.start(self, prompts.batch(for: self), steering) }
    }

    /// Starts the answer to a conversation, through the model's chat template.
    public func chat(
        _ messages: [ChatMessage], options: GenerationOptions = GenerationOptions(), steering: [Steer] = [],
        onStep: (@Sendable (GenerationStep) throws -> Void)? = nil
    ) -> Generation {
        Generation(self, onStep) {
            let json = try String(decoding: JSONEncoder().encode(messages), as: UTF8.self)
            let batch = Batch(try made { mlxterp_batch_from_chats(raw, json, nil, $0) })
            return try options.start(self, batch, steering)
        }
    }

    /// A conversation as the model's chat template writes it.
    ///
    /// - Parameters:
    ///   - messages: what was said.
    ///   - addGenerationPrompt: end where the assistant's answer begins.
    ///   - extraJSON: an object with further names for the template, such as "tools".
    public func applyChatTemplate(
        _ messages: [ChatMessage], addGenerationPrompt: Bool = false, extraJSON: String = "{}"
    ) throws -> String {
        let json = try String(decoding: JSONEncoder().encode(messages), as: UTF8.self)
        let extra = try checked(extraJSON, "the JSON")
        return try text { mlxterp_model_apply_chat_template(raw, json, addGenerationPrompt, extra, $0) }
    }
}

/// One message of a conversation.
public struct ChatMessage: Sendable, Codable, Equatable {
    /// "user", "assistant" or "system".
    public var role: String
    /// What was said.
    public var content: String

    /// A message of a role.
    public init(role: String, content: String) { (self.role, self.content) = (role, content) }
    /// What the user says.
    public static func user(_ content: String) -> ChatMessage { ChatMessage(role: "user", content: content) }
    /// What the assistant says.
    public static func assistant(_ content: String) -> ChatMessage { ChatMessage(role: "assistant", content: content) }
    /// What the system says.
    public static func system(_ content: String) -> ChatMessage { ChatMessage(role: "system", content: content) }
}
