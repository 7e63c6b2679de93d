import MLXTerp

// For the views. Elsewhere nobody watches, and Swift 6.0's libswiftObservation does not link on Linux.
#if canImport(SwiftUI)
import Observation
#endif

/// What the window knows: the prompt, the steering, and the answers. Changing something asks again; a question that is
/// no longer of interest is dropped.
#if canImport(SwiftUI)
@Observable
#endif
@MainActor
public final class LensState {
    /// The text under the lens.
    public var prompt = "The capital of France is" { didSet { changed(from: oldValue, to: prompt) } }
    /// The layer whose attention is shown, and after which the steering is added.
    public var layer = 0 { didSet { changed(from: oldValue, to: layer) } }
    /// How much of the direction is added. 0: none.
    public var strength = 0.0 { didSet { changed(from: oldValue, to: strength) } }
    /// The prompts between which the direction leads.
    public var from = "I feel sad. It is" { didSet { changed(from: oldValue, to: from) } }
    public var to = "I feel happy. It is" { didSet { changed(from: oldValue, to: to) } }

    /// The answers to the latest question that was answered.
    public private(set) var table: LensTable?
    public private(set) var attention: AttentionMaps?
    public private(set) var next: [Candidate] = []
    /// How far a load has come, from 0 to 1; `nil` when nothing loads.
    public private(set) var loading: Double?
    /// Why the latest question has no answer.
    public private(set) var failure: String?
    /// The model, once it is there.
    public private(set) var model: InterpretableModel?

    private var question: Task<Void, Never>?

    public init() {}

    /// Loads a model and asks the first question.
    public func open(_ source: String) async {
        loading = 0
        defer { loading = nil }
        do {
            let model = try await InterpretableModel.load(source) { progress in
                Task { @MainActor [weak self] in
                    if self?.loading != nil { self?.loading = progress.fraction }
                }
            }
            self.model = model
            layer = model.layerCount / 2
            failure = nil
            ask()
        } catch {
            failure = "\(error)"
        }
    }

    /// Waits for the answers to what was asked last.
    public func settled() async { await question?.value }

    private func changed<Value: Equatable>(from old: Value, to new: Value) {
        if old != new { ask() }
    }

    private func ask() {
        question?.cancel()
        guard let model, !prompt.isEmpty else { return }
        let asked = (prompt: prompt, layer: layer, strength: strength, from: from, to: to)
        question = Task {
            do {
                // Not on the main actor: the window goes on.
                let answers = try await Self.answer(model, asked.prompt, asked.layer, asked.strength, asked.from, asked.to)
                if Task.isCancelled { return }
                (table, attention, next, failure) = (answers.0, answers.1, answers.2, nil)
            } catch {
                if !Task.isCancelled { failure = "\(error)" }
            }
        }
    }

    private nonisolated static func answer(
        _ model: InterpretableModel, _ prompt: String, _ layer: Int, _ strength: Double, _ from: String, _ to: String
    ) async throws -> (LensTable, AttentionMaps, [Candidate]) {
        var steering: Steering?
        if strength != 0 {
            let vector = try model.direction(from: from, to: to, layer: layer)
            steering = Steering(vector: vector, layer: layer, strength: strength)
        }
        try Task.checkCancellation()
        let next = try model.next(prompt, steering: steering)
        let attention = try model.attention(prompt, layer: layer, steering: steering)
        return (try model.lens(prompt, steering: steering), attention, next)
    }
}
