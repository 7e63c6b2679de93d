import XCTest

@testable import MLXTerp

final class TraceTests: HandleTests {
    func testTheExampleOfTheDocumentation() throws {
        let model = try smollm2.get()
        let vector = try Tensor([Float](repeating: 0.25, count: 64))
        var attention: Tensor?
        let trace = try model.trace("The capital of France is") { t in
            let attn = try t.layers[3].attn.output
            XCTAssertFalse(attn.isEvaluated)
            attention = attn
            t.layers[4].mlp.output = try t.layers[4].mlp.output * 0
            t.layers[8].attn.heads[2].z[positions: -1] += vector
        }
        XCTAssertEqual(attention?.shape, [1, 5, 576])
        let logits = try trace.output.array(of: Float.self)
        XCTAssertEqual(logits.count, 5 * model.vocabularySize)
        let receipts = try trace.receipts()
        XCTAssertEqual(receipts.count, 2)
        XCTAssertEqual(receipts[1].positions, [4])
        // A vector of 64 quarters has norm 2.
        XCTAssertEqual(receipts[1].changeNorm ?? 0, 2, accuracy: 1e-5)
        XCTAssertTrue(receipts.allSatisfy(\.reached))
    }

    func testTheNextTokenIsParis() throws {
        let model = try smollm2.get()
        let trace = try model.trace("The capital of France is")
        let best = try trace.output[0, -1].argmax(axis: -1).item(as: Int.self)
        XCTAssertEqual(try model.tokenText(best), " Paris")
    }

    func testAWriteIsSeenByWhatFollows() throws {
        let model = try tiny()
        let plain = try model.trace(tokens)
        let zeroed = try model.trace(tokens) { t in
            t.layers[0].attn.output = 0
        }
        XCTAssertEqual(try zeroed.layers[0].attn.output.array(of: Float.self), [Float](repeating: 0, count: 4 * 24))
        XCTAssertNotEqual(try plain.output.array(of: Float.self), try zeroed.output.array(of: Float.self))
        // The same as an intervention, and by pattern.
        let given = try model.trace(tokens, interventions: ["layers.0.attn": .zeroOut])
        XCTAssertEqual(try given.output.array(of: Float.self), try zeroed.output.array(of: Float.self))
        let assigned = try model.trace(tokens) { t in
            t.layers[0].attn.output = Intervention.zeroOut
        }
        XCTAssertEqual(try assigned.output.array(of: Float.self), try zeroed.output.array(of: Float.self))
    }

    func testAnIdentityWriteChangesNothing() throws {
        let model = try tiny()
        let plain = try model.trace(tokens)
        let same = try model.trace(tokens) { t in
            t.layers[1].output = try t.layers[1].output
        }
        XCTAssertEqual(try plain.output.array(of: Float.self), try same.output.array(of: Float.self))
    }

    func testInPlaceOperatorsOfSites() throws {
        let model = try tiny()
        let plain = try model.trace(tokens).layers[0].output.array(of: Float.self)
        let vector = try Tensor((0..<24).map { Float($0) })
        let added = try model.trace(tokens) { t in t.layers[0].output += vector }
        for (i, (a, b)) in zip(try added.layers[0].output.array(of: Float.self), plain).enumerated() {
            XCTAssertEqual(a, b + Float(i % 24), accuracy: 1e-5)
        }
        let taken = try model.trace(tokens) { t in t.layers[0].output -= vector }
        for (i, (a, b)) in zip(try taken.layers[0].output.array(of: Float.self), plain).enumerated() {
            XCTAssertEqual(a, b - Float(i % 24), accuracy: 1e-5)
        }
        let doubled = try model.trace(tokens) { t in t.layers[0].output *= 2 }
        XCTAssertEqual(try doubled.layers[0].output.array(of: Float.self), plain.map { $0 * 2 })
        XCTAssertEqual(try doubled.receipts().count, 1)
    }

    func testHeadsAndPositionsAreReadAndWritten() throws {
        let model = try tiny()
        let plain = try model.trace(tokens)
        let axes = try model.sites("layers.0.attn.z")[0].axes
        XCTAssertEqual(axes.count, 4)
        let z = try plain.layers[0].attn.z
        let head = axes.firstIndex(of: "head")!
        let part = try plain.layers[0].attn.heads[1].z[positions: -1]
        let expected = head == 1 ? try z[0, 1, -1] : try z[0, -1, 1]
        XCTAssertEqual(part.shape, [1, z.shape[3]])
        XCTAssertEqual(try part.array(of: Float.self), try expected.array(of: Float.self))
        XCTAssertEqual(try plain.layers[0].attn.heads[0, 1].z.shape[head], 2)

        // What was read and is written back leaves the value; another value stands where it was put, and only there.
        let size = z.shape[3]
        let sevens = try Tensor([Float](repeating: 7, count: size))
        let twoRows = try Tensor((0..<2 * size).map { Float($0) }, shape: [2, size])
        let written = try model.trace(tokens) { t in
            t.layers[0].attn.heads[1].z[positions: -1] = sevens
            t.layers[0].attn.heads[0].z[positions: 0, 2] = twoRows
        }
        XCTAssertEqual(
            try written.layers[0].attn.heads[1].z[positions: -1].array(of: Float.self),
            [Float](repeating: 7, count: size))
        XCTAssertEqual(
            try written.layers[0].attn.heads[0].z[positions: 0, 2].array(of: Float.self),
            (0..<2 * size).map { Float($0) })
        XCTAssertEqual(
            try written.layers[0].attn.heads[1].z[positions: 1].array(of: Float.self),
            try plain.layers[0].attn.heads[1].z[positions: 1].array(of: Float.self))
        XCTAssertEqual(
            try written.layers[0].attn.heads[0].z[positions: 1].array(of: Float.self),
            try plain.layers[0].attn.heads[0].z[positions: 1].array(of: Float.self))
    }

    func testPositionsCountFromEachRowsOwnEnd() throws {
        let model = try tiny()
        let both = try model.trace([[3, 7, 11, 20], [5, 9]])
        XCTAssertEqual(both.batch.lengths, [4, 2])
        XCTAssertEqual(try both.batch.rows(), [[3, 7, 11, 20], [5, 9]])
        let last = try both.layers[1].output[positions: -1]
        XCTAssertEqual(last.shape, [2, 24])
        let whole = try both.layers[1].output
        XCTAssertEqual(try last[1].array(of: Float.self), try whole[1, 1].array(of: Float.self))
        XCTAssertEqual(try last[0].array(of: Float.self), try whole[0, 3].array(of: Float.self))
        let error = assertThrows(.invalidArgument, try both.layers[1].output[positions: 3])
        XCTAssertEqual(error?.site, "layers.1.output")
    }

    func testForksShareAndDiffer() throws {
        let model = try tiny()
        let trace = try model.trace(tokens)
        let plain = try trace.output.array(of: Float.self)
        let fork = try trace.fork()
        fork.layers[0].mlp.output *= 0.5
        XCTAssertNotEqual(try fork.output.array(of: Float.self), plain)
        XCTAssertEqual(try trace.output.array(of: Float.self), plain)
        let rows = try trace.fork(rows: 3)
        XCTAssertEqual(rows.batch.count, 3)
        XCTAssertEqual(try rows.output.shape, [3, 4, 64])
    }

    func testACacheContinues() throws {
        let model = try tiny()
        let whole = try model.trace(tokens).output
        let first = try model.trace([3, 7, 11], cache: Cache())
        let cache = try first.cache()
        XCTAssertEqual(try cache.lengths(), [3])
        try cache.eval()
        XCTAssertGreaterThan(cache.byteCount, 0)
        let next = try model.trace([20], cache: cache)
        let (a, b) = (try next.output[0, 0].array(of: Float.self), try whole[0, 3].array(of: Float.self))
        zip(a, b).forEach { XCTAssertEqual($0, $1, accuracy: 1e-4) }
    }

    func testNamesAndPlans() throws {
        let model = try tiny()
        XCTAssertEqual(model.layerCount, 2)
        XCTAssertEqual(model.hiddenSize, 24)
        XCTAssertEqual(try model.sites("layers.*.mlp").map(\.standard), ["layers.0.mlp.output", "layers.1.mlp.output"])
        let planned = try model.plan(tokens).first { $0.standard == "layers.0.attn.pattern" }
        XCTAssertEqual(planned?.shape, [1, model.headCount, 4, 4])
        XCTAssertEqual(planned?.onTouch, true)
        XCTAssertTrue(model.description.contains("layers"))
    }
}
