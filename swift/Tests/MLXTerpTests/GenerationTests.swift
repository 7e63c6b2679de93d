import XCTest

@testable import MLXTerp

final class GenerationTests: HandleTests {
    /// What transformers draws: tests/fixtures/generation.
    private struct Expected: Decodable {
        struct Row: Decodable {
            let ids, tokens: [Int]
            let text: String?
        }
        let smollm2: [Row]
        let tiny: [String: [Row]]
    }

    private func expected() throws -> Expected {
        let file = root.appendingPathComponent("tests/fixtures/generation/expected.json")
        return try JSONDecoder().decode(Expected.self, from: Data(contentsOf: file))
    }

    private let open = GenerationOptions(maxTokens: 6, endTokens: [])

    func testTheTokensOfTheReferenceComeOneByOne() async throws {
        let model = try smollm2.get()
        let want = try expected().smollm2[0]
        var (ids, text) = ([Int](), "")
        for try await token in model.generate(want.ids, options: GenerationOptions(maxTokens: 6)) {
            XCTAssertEqual(token.step, ids.count)
            ids.append(token.id)
            text += token.text
        }
        XCTAssertEqual(ids, Array(want.tokens.prefix(6)))
        XCTAssertEqual(text, try model.decode(ids))
    }

    func testRowsOfABatchAreThoseOfTheReference() throws {
        let model = try tiny()
        let want = try XCTUnwrap(expected().tiny["llama"])
        let options = GenerationOptions(maxTokens: 24, endTokens: [])
        let rows = try model.generate(want.map(\.ids), options: options).run()
        XCTAssertEqual(rows.map(\.tokens), want.map(\.tokens))
        XCTAssertEqual(rows.map(\.finish), [.length, .length])
    }

    func testEveryStepIsATrace() throws {
        let model = try tiny()
        let plain = try model.generate(tokens, options: open).run()[0].tokens
        let generation = model.generate(tokens, options: open)
        var drawn: [Int] = []
        while let step = try generation.nextStep() {
            XCTAssertEqual(try step.trace.layers[0].output.shape, [1, step.number == 0 ? 4 : 1, 24])
            if step.number == 1 {
                step.trace.layers[1].output = 0
                XCTAssertEqual(try step.trace.receipts()[0].step, 1)
            }
            drawn += try step.draw().map(\.id)
            assertThrows(.staleWrite, try step.trace.write("layers.1.output", Tensor([Float](repeating: 0, count: 24))))
        }
        XCTAssertEqual(drawn.count, 6)
        XCTAssertEqual(drawn[0], plain[0])
        XCTAssertNotEqual(drawn[1], plain[1])
    }

    func testSteering() throws {
        let model = try tiny()
        let vector = try Tensor((0..<24).map { Float($0) * 0.3 })
        func run(_ steering: [Steer]) throws -> [Int] {
            try model.generate(tokens, options: open, steering: steering).run()[0].tokens
        }
        let plain = try run([])
        let always = try run([.add(vector, at: .layers(0...1))])
        XCTAssertNotEqual(always, plain)
        XCTAssertEqual(always, try run([.change(.add(vector), at: "layers.*.output")]))
        let decode = try run([.add(vector, at: .layer(0), when: .decode)])
        XCTAssertEqual(decode[0], plain[0])
        XCTAssertNotEqual(decode, plain)
        let never = try Condition.probe("layers.0.output", vector, above: 1e9)
        XCTAssertEqual(try run([.add(vector, at: .layer(1)).onlyWhile(never)]), plain)
        let sure = try Condition.probe("layers.0.output", vector, below: 1e9, bias: 1)
        XCTAssertEqual(
            try run([.add(vector, at: .layer(1)).onlyWhile(sure)]), try run([.add(vector, at: .layer(1))]))
    }

    func testAClosureThatThrowsEndsTheGeneration() async throws {
        struct Enough: Error {}
        let model = try tiny()
        let generation = model.generate(tokens, options: open) { step in
            if step.number == 2 { throw Enough() }
        }
        var seen = 0
        do {
            for try await _ in generation { seen += 1 }
            XCTFail("nothing was thrown")
        } catch is Enough {}
        XCTAssertEqual(seen, 2)
        XCTAssertNil(try generation.nextStep())
        XCTAssertEqual(try generation.rows()[0].tokens.count, 2)
    }

    func testMistakesAreThrownByTheFirstStep() throws {
        let model = try tiny()
        for options in [
            GenerationOptions(maxTokens: 0), GenerationOptions(maxTokens: -1), GenerationOptions(temperature: -1),
            GenerationOptions(topK: 0), GenerationOptions(topP: .nan), GenerationOptions(stop: [""]),
        ] {
            assertThrows(.invalidArgument, try model.generate(tokens, options: options).nextStep())
        }
        assertThrows(.unknownSite, try model.generate(tokens, steering: [.change(.zeroOut, at: .layer(9))]).nextStep())
        assertThrows(.notFound, try model.chat([.user("hello")]).nextStep())
    }

    func testConversations() throws {
        let model = try smollm2.get()
        let text = try model.applyChatTemplate([.user("Hi")], addGenerationPrompt: true)
        XCTAssertTrue(text.hasSuffix("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"), text)
        let want = try XCTUnwrap(expected().smollm2.last)
        let answer = try model.chat([.user("Name three colours.")], options: GenerationOptions(maxTokens: 5)).run()
        XCTAssertEqual(answer[0].tokens, Array(want.tokens.prefix(5)))
    }

    func testACancelledTaskStopsBetweenSteps() async throws {
        let model = try tiny()
        let task = Task {
            var seen = 0
            for try await _ in model.generate(tokens, options: GenerationOptions(maxTokens: 100, endTokens: [])) {
                seen += 1
                if seen == 3 { withUnsafeCurrentTask { $0?.cancel() } }
            }
            return seen
        }
        do {
            _ = try await task.value
            XCTFail("nothing was thrown")
        } catch is CancellationError {}
    }
}
