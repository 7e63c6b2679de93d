import Foundation
import LensModel
import MLXTerp
import XCTest

private let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("target/models/SmolLM2-135M-Instruct.Q4_1.gguf").path
private let loaded = Result { try InterpretableModel(path) }
private let prompt = "The capital of France is"

final class LensModelTests: XCTestCase {
    func testTheLastLayerSaysWhatTheModelSays() throws {
        let model = try loaded.get()
        let table = try model.lens(prompt)
        XCTAssertEqual(table.tokens, ["The", " capital", " of", " France", " is"])
        XCTAssertEqual(table.layers.count, 30)
        XCTAssertTrue(table.layers.allSatisfy { $0.count == 5 })
        let next = try model.next(prompt)
        XCTAssertEqual(next.map(\.token).first, " Paris")
        XCTAssertEqual(table.layers[29][4].token, " Paris")
        XCTAssertEqual(table.layers[29][4].probability, next[0].probability, accuracy: 1e-5)
        // The first layers do not know it yet.
        XCTAssertNotEqual(table.layers[0][4].token, " Paris")
    }

    func testAttentionIsCausalAndAddsUp() throws {
        let maps = try loaded.get().attention(prompt, layer: 3)
        XCTAssertEqual(maps.heads.count, 9)
        for head in maps.heads {
            for (query, row) in head.enumerated() {
                XCTAssertEqual(row.reduce(0, +), 1, accuracy: 1e-4)
                XCTAssertTrue(row[(query + 1)...].allSatisfy { $0 == 0 })
            }
        }
    }

    func testSteeringLeadsSomewhere() throws {
        let model = try loaded.get()
        let vector = try model.direction(from: "The capital of France is", to: "The capital of Italy is", layer: 26)
        XCTAssertEqual(vector.shape, [576])
        let steered = try model.next(prompt, steering: Steering(vector: vector, layer: 26, strength: 1))
        XCTAssertEqual(steered[0].token, " Rome")
        // No strength, no change.
        let same = try model.next(prompt, steering: Steering(vector: vector, layer: 26, strength: 0))
        XCTAssertEqual(same, try model.next(prompt))
    }

    func testTheWindowsStateFollowsItsControls() async throws {
        try await Self.followTheControls()
    }

    @MainActor
    private static func followTheControls() async throws {
        let state = LensState()
        await state.open("/nowhere/at/all")
        XCTAssertNil(state.model)
        XCTAssertTrue(state.failure?.contains("/nowhere/at/all") ?? false)
        await state.open(path)
        await state.settled()
        XCTAssertNil(state.failure)
        XCTAssertNil(state.loading)
        XCTAssertEqual(state.layer, 15)
        XCTAssertEqual(state.next.first?.token, " Paris")
        let plain = try XCTUnwrap(state.table)

        state.layer = 99
        await state.settled()
        XCTAssertTrue(state.failure?.contains("99") ?? false)
        // Only the last of several changes is answered.
        state.strength = 2
        state.from = "The capital of France is"
        state.to = "The capital of Italy is"
        state.layer = 26
        state.strength = 1
        await state.settled()
        XCTAssertNil(state.failure)
        XCTAssertEqual(state.next.first?.token, " Rome")
        XCTAssertNotEqual(state.table, plain)
        // Layers before the steering are what they were.
        XCTAssertEqual(state.table?.layers[..<26], plain.layers[..<26])
    }
}
